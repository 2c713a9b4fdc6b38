"""Folders of model weights: a local path or a pinned revision of a hub repository; safetensors only.

A local model is named by one digest over all files that are read of it, never by its path. A hub model is named by id
and commit.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from lightgen.config import Config
from lightgen.errors import ConfigError, ModelError, ModelIncomplete
from lightgen.problems import Problem
from lightgen.storage import hub
from lightgen.storage.file_digests import file_digest
from schemas.canonical import canonical_json

COMMIT = re.compile(r"^[0-9a-f]{40}$")
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")


class Weights(Config):
    """Where the weights of a model are."""

    model: str = Field(min_length=1, description="local folder, or owner/name on the Hugging Face hub")
    revision: str | None = Field(default=None, description="commit of the hub repository, 40 hex digits")
    subfolder: str = Field(default="", description="of the folder or repository; empty: the top")

    @property
    def folders(self) -> tuple[str, ...]:
        """Subfolders of the model that are read; "" is the whole of it."""
        return (self.subfolder,)

    @property
    def models(self) -> tuple[str, ...]:
        """Subfolders that hold a config.json and weights."""
        return (self.subfolder,)

    def content(self) -> dict[str, Any]:
        """Settings, and the weights by digest or by id and commit. Raises ConfigError or ModelError; loads nothing."""
        where = {"model", "revision", "subfolder", "tokenizer_subfolder"}
        settings = {name: value for name, value in super().content().items() if name not in where}
        return {**settings, "weights": weights_identity(self)}

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a commit that is not given, and files that are not here or cannot be used."""
        yield from super().problems()
        if not is_local(self) and HUB_ID.match(self.model) and not _is_pinned(self):
            yield _unpinned(self.model)
        yield from _absent(self) if folder_here(self) is None else self.refused(self.look)

    def look(self, root: Path) -> None:
        """Raises ConfigError or ModelError where the model in `root` cannot be used; reads no weights."""
        for name in self.models:
            check_model_folder(root / name, self.model)

    def refused(self, look: Callable[[Path], object]) -> Iterator[Problem]:
        """What `look` raises for the folder of the model, where it is on this machine.

        In the hub's cache may be a part of a model, such as its tokenizer: the rest is fetched when it is opened.
        """
        if (folder := folder_here(self)) is None:
            return
        try:
            look(folder)
        except (ConfigError, ModelError) as error:
            if isinstance(error, ModelIncomplete) and not is_local(self):
                yield from _absent(self)
                return
            yield Problem("here", "model", str(error), f"repair or fetch {folder}")

    def bytes_here(self, *subfolders: str) -> int | None:
        """Bytes of the weights in `subfolders`, or in all of `models`, where copies are on this machine."""
        folder = folder_here(self)
        if folder is None:
            return None
        found = {path for name in subfolders or self.models for path in (folder / name).glob("*.safetensors")}
        return sum(path.stat().st_size for path in found if path.name.count(".") == 1) or None

    def settings_here(self, subfolder: str = "") -> dict[str, Any] | None:
        """The model's config.json in `subfolder`, where a copy is on this machine; nothing is fetched.

        None too for one that is no JSON object, of which `problems` speaks.
        """
        folder = folder_here(self)
        path = folder / subfolder / "config.json" if folder else None
        try:
            found = json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def weights_folder(weights: Weights, root: Path | None = None) -> Path:
    """The folder with config.json and safetensors: that of the model in `root`, or fetched from the hub where needed.

    Raises ConfigError for an unpinned revision, remote code or pickled weights, ModelError where nothing is there.
    """
    folder = (root or model_root(weights)) / weights.subfolder
    check_model_folder(folder, weights.model)
    return folder


def model_root(weights: Weights) -> Path:
    """The folder of the whole model. Raises ConfigError for an unpinned revision, ModelError."""
    root = Path(weights.model).expanduser()
    return root if root.is_dir() else _fetch(weights)


def weights_identity(weights: Weights) -> dict[str, Any]:
    """What names the weights: the digest of a local model's files, or the hub's id and commit."""
    root = Path(weights.model).expanduser()
    if root.is_dir():
        for name in weights.models:
            check_model_folder(root / name, weights.model)
        return {"sha256": folder_digest(root, weights.folders)}
    return {"model": weights.model, "revision": pinned(weights), "folders": list(weights.folders)}


def folder_digest(root: Path, subfolders: tuple[str, ...] = ("",)) -> str:
    """One digest over names and contents of all files of a model that a loader may read; hidden folders are left out.

    Reads every byte once; later calls take the digest of an unchanged file from a cache.
    """
    found = {path for name in subfolders for pattern in WANTED for path in (root / name).rglob(pattern)}
    named = {path.relative_to(root).as_posix(): path for path in found if path.is_file()}
    visible = {name: path for name, path in named.items() if not any(part.startswith(".") for part in name.split("/"))}
    return hashlib.sha256(canonical_json([[name, file_digest(visible[name])] for name in sorted(visible)])).hexdigest()


def folder_here(weights: Weights) -> Path | None:
    """The folder of the whole model on this machine, given or in the hub's cache; None where there is none."""
    if is_local(weights):
        return Path(weights.model).expanduser()
    if not HUB_ID.match(weights.model):
        return None
    commits = [weights.revision] if weights.revision else hub.commits_here(weights.model)
    return hub.snapshot(weights.model, commits[0]) if commits else None


def is_local(weights: Weights) -> bool:
    """Whether the model is a folder of this machine."""
    return Path(weights.model).expanduser().is_dir()


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


def pinned(weights: Weights) -> str:
    """The commit of a hub model. Raises ConfigError where it is not pinned, or no model of a hub."""
    if not HUB_ID.match(weights.model):
        raise ConfigError(f"model {weights.model!r}: no such folder, and not an owner/name of the Hugging Face hub")
    if not weights.revision or not _is_pinned(weights):
        raise ConfigError(
            f"RevisionNotPinned: model {weights.model} needs `revision`, the 40 digits of a commit of its repository "
            f"(given {weights.revision!r}); a branch can change under a recipe"
        )
    return weights.revision


def _is_pinned(weights: Weights) -> bool:
    return bool(weights.revision and COMMIT.match(weights.revision))


def _unpinned(model: str) -> Problem:
    here = hub.commits_here(model)
    known = f"; {here[0]} is in the cache of this machine" if here else ""
    fix = f"set it to the 40 digits of the commit you mean, from {model}/commits on the hub{known}"
    return Problem("recipe", "revision", f"model {model} has no commit, so it could change under the recipe", fix)


def _absent(weights: Weights) -> Iterator[Problem]:
    """Why a model that is not on this machine will not come by itself."""
    if not HUB_ID.match(weights.model):
        yield Problem("here", "model", f"no folder {weights.model}", "give a folder, or owner/name of the hub")
        return
    state = "is not" if folder_here(weights) is None else "is only in part"
    what, fix = f"model {weights.model} {state} on this machine", "fetch it (`hf download`), or give a local folder"
    if not _is_pinned(weights):
        yield Problem("here", "model", what, fix)
    elif why := hub.refusal(weights.model, weights.revision or ""):
        unchecked = ", so its commit was not checked" if why == hub.UNREACHED else ""
        yield Problem("here", "model", f"{what}: {why}{unchecked}", fix)


def _fetch(weights: Weights) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    revision = pinned(weights)
    patterns = [f"{folder}/{name}" if folder else name for folder in weights.folders for name in WANTED]
    try:
        return Path(snapshot_download(weights.model, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"model {weights.model}@{revision[:12]} cannot be fetched: {type(error).__name__}: {str(error)[:300]}; "
            "check the network and, for a gated model, your licence and token, or give a local folder"
        ) from None


def check_model_folder(folder: Path, model: str) -> None:
    """Raises ModelError or ConfigError where a folder of `model` holds nothing that is safe to load."""
    where = f"model {model}" + (f", folder {folder.name}" if folder != Path(model).expanduser() else "")
    config = folder / "config.json"
    if not config.is_file():
        raise ModelIncomplete(f"{where}: no config.json there; is the subfolder right?")
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{config}: not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise ModelError(f"{config}: no JSON object; fetch it again")
    if "auto_map" in settings:
        raise ConfigError(f"RemoteCodeRefused: {where} asks to run code of its own (auto_map); use a model without it")
    if any(folder.glob("*.safetensors")):
        _check_parts(folder, where)
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickled:
        raise ConfigError(
            f"UnsafeWeights: {where} has only {pickled[0]}, which can run code when it is loaded; convert it once, "
            "on a machine you can lose, with `model.save_pretrained(folder, safe_serialization=True)`"
        )
    raise ModelIncomplete(f"{where}: no .safetensors there")


def _check_parts(folder: Path, where: str) -> None:
    """Raises ModelError where a file is missing that an index of parts names, as after a download that was stopped."""
    # A second dot names a variant (model.fp16.safetensors), which is not what is loaded.
    for index in (path for path in folder.glob("*.safetensors.index.json") if path.name.count(".") == 3):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            told = f"{type(error).__name__}: {error}"
            raise ModelError(f"{index}: names no weights and their files ({told}); fetch it again") from None
        missing = sorted(name for name in named if not (folder / name).is_file())
        if missing:
            raise ModelIncomplete(f"{where}: {len(missing)} of {len(named)} parts are missing, the first {missing[0]}")
