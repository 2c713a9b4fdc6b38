"""Folders of model weights: a local path or a pinned revision of a hub repository; safetensors only."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lightgen.errors import ConfigError, ModelError
from schemas.canonical import canonical_json

COMMIT = re.compile(r"^[0-9a-f]{40}$")
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


class Weights(BaseModel):
    """Where the weights of a model are."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str = Field(min_length=1, description="local folder, or owner/name on the Hugging Face hub")
    revision: str | None = Field(default=None, description="commit of the hub repository, 40 hex digits")
    subfolder: str = ""


def weights_folder(weights: Weights, also: tuple[str, ...] = ()) -> Path:
    """The folder with config.json and safetensors, fetched from the hub where needed; `also` names sibling folders.

    Raises ConfigError for an unpinned revision, remote code or pickled weights, ModelError where nothing is there.
    """
    root = Path(weights.model).expanduser()
    if not root.is_dir():
        root = _fetch(weights, also)
    folder = root / weights.subfolder
    _check(folder, weights)
    return folder


def weights_identity(weights: Weights) -> dict[str, str]:
    """What names the weights in a recipe: the digest of local files, or the hub's commit."""
    if Path(weights.model).expanduser().is_dir():
        return {"sha256": rows_digest(tensor_rows(weights_folder(weights)))}
    return {"revision": _pinned(weights)}


def tensor_rows(folder: Path) -> list[dict[str, str]]:
    """One row of `schemas.tensors` for each tensor of the folder, by name; raises ModelError if broken."""
    from safetensors import SafetensorError, safe_open

    rows = []
    # A second dot names a variant (model.fp16.safetensors), which is not what is loaded.
    for path in sorted(path for path in folder.glob("*.safetensors") if path.name.count(".") == 1):
        try:
            with safe_open(path, "pt") as file:
                # safetensors' handle is not a mapping: `keys` is the only way to its names.
                names = list(file.keys())
                rows += [tensor_row(name, file.get_tensor(name)) for name in names]
        except SafetensorError as error:
            raise ModelError(f"{path}: broken weights ({error}); fetch the file again") from None
    return sorted(rows, key=lambda row: row["name"])


def tensor_row(name: str, tensor: Any) -> dict[str, str]:
    """The row of `schemas.tensors` of one torch tensor."""
    import torch

    host = tensor.detach().cpu().contiguous()
    # A tensor without dimensions cannot be viewed as bytes.
    raw = host.reshape(-1).view(torch.uint8).numpy().data if host.numel() else b""
    shape = ",".join(str(size) for size in host.shape)
    digest = hashlib.sha256(raw).hexdigest()
    return {"name": name, "dtype": str(host.dtype).removeprefix("torch."), "shape": shape, "sha256": digest}


def rows_digest(rows: list[dict[str, str]]) -> str:
    """One digest over all tensors."""
    return hashlib.sha256(canonical_json(rows)).hexdigest()


def _pinned(weights: Weights) -> str:
    if not HUB_ID.match(weights.model):
        raise ConfigError(f"model {weights.model!r}: no such folder, and not an owner/name of the Hugging Face hub")
    if not weights.revision or not COMMIT.match(weights.revision):
        raise ConfigError(
            f"RevisionNotPinned: model {weights.model} needs `revision`, the 40 digits of a commit of its repository "
            f"(given {weights.revision!r}); a branch can change under a recipe"
        )
    return weights.revision


def _fetch(weights: Weights, also: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    revision = _pinned(weights)
    folders = (weights.subfolder, *also)
    patterns = [f"{folder}/{name}" if folder else name for folder in folders for name in WANTED]
    try:
        return Path(snapshot_download(weights.model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"model {weights.model}@{revision[:12]} cannot be fetched: {type(error).__name__}: {str(error)[:300]}; "
            "check the network and, for a gated model, your licence and token, or give a local folder"
        ) from None


def _check(folder: Path, weights: Weights) -> None:
    where = f"model {weights.model}" + (f", subfolder {weights.subfolder}" if weights.subfolder else "")
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(f"{where}: no config.json there; is the subfolder right?")
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{config}: not JSON ({error})") from None
    if "auto_map" in settings:
        raise ConfigError(f"RemoteCodeRefused: {where} asks to run code of its own (auto_map); use a model without it")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickled:
        raise ConfigError(
            f"UnsafeWeights: {where} has only {pickled[0]}, which can run code when it is loaded; convert it once, "
            "on a machine you can lose, with `model.save_pretrained(folder, safe_serialization=True)`"
        )
    raise ModelError(f"{where}: no .safetensors there")
