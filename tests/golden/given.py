"""What goldens are given: committed pictures and weights, and numbers made by plain arithmetic."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lightgen.encoders.patch_pca import PatchPcaConfig
from lightgen.encoders.restore import IMAGE_FILE, TEXT_FILE, Encoders, TextEncoding
from lightgen.seeds import content_id
from lightgen.settings import Device
from lightgen.storage.feature_codec import latent_array, text_array
from lightgen.storage.pixels import decode_image
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context, RunConfig, Worker
from schemas import features as features_schema
from schemas import pairs as pairs_schema
from schemas import tensors
from schemas import texts as texts_schema
from schemas.ref import ArtifactRef
from tests.golden.compare import plain
from tests.golden.subject import Output
from tests.lightgen.sealed import image, images, seal

HERE = Path(__file__).parent
WEIGHTS, INPUTS = HERE / "weights", HERE / "inputs"
FLUX, JUDGE = WEIGHTS / "flux", WEIGHTS / "qwen"
CAPTIONS = {
    "scene-0": "a red circle left of a blue square",
    "scene-1": "three green triangles",
    "scene-2": "a yellow cross",
    "scene-3": "two circles",
    "near": "a yellow cross",
    "wide": "a photo of a dog",
    "flat": "two circles",
}
DEVICE: Device = "cpu"
SIZE_PX, LATENT, TEXT_DIM = 32, (4, 8, 8), 6
PCA = PatchPcaConfig(channels=4, fit_sizes_px=(SIZE_PX,))


def context(folder: Path, seed: int = 3) -> Context:
    """A store of its own, on the CPU where outputs are written."""
    return Context(open_or_create(str(folder / "store")), seed, RunConfig(device=DEVICE))


def worker(folder: Path) -> Worker:
    """The same for a member."""
    return Worker(context(folder).store, device=DEVICE)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, and no threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def picture(name: str) -> np.ndarray:
    """Pixels of an input."""
    pixels = decode_image((INPUTS / f"{name}.png").read_bytes())
    assert isinstance(pixels, np.ndarray)
    return pixels


def wave(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers between -2 and 2, exact in float16."""
    places = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    return ((places * 37 + seed * 53 + places // 7 * 11) % 129 - 64) / 32


def sealed_images(store: Store, names: Sequence[str] = tuple(CAPTIONS)) -> ArtifactRef:
    """IMAGES of the inputs in two shards, and one file that is no image; what follows a space makes another image."""
    files = {name: name.partition(" ")[0] for name in names}
    rows = [image(name, (INPUTS / f"{file}.png").read_bytes(), CAPTIONS[file]) for name, file in files.items()]
    return images(store, [*rows, image("broken", b"no image", "a red cross")], 2)


def sealed_vae(store: Store) -> Version:
    """A `patch_pca` of round numbers."""
    table = pa.table({"name": ["basis"], "dtype": ["float64"], "shape": ["48,4"], "sha256": ["0"]}, tensors.SCHEMA)
    files = {name: (WEIGHTS / "pca" / name).read_bytes() for name in ("vae.json", "vae.safetensors")}
    return store.open(seal(store, "vae", [ShardOutput(table, 1, tensors.SCHEMA, files=files)]))


def _encoders(store: Store, padded: bool = False) -> Encoders:
    """What made the features, their texts and the checkpoint; the VAE is sealed in `store`."""
    encoders = _checkpoint_settings(store)["encoders"]
    text = {**encoders["text"], **({"padded": True} if padded else {})}
    return Encoders.model_validate({**encoders, "text": text})


def _checkpoint_settings(store: Store) -> dict[str, Any]:
    settings = json.loads((WEIGHTS / "student" / "config.json").read_text())
    settings["encoders"]["vae"] = sealed_vae(store).ref.content
    return settings


def sealed_checkpoint(store: Store) -> ArtifactRef:
    """The CHECKPOINT of the committed student."""
    extras = {name: (WEIGHTS / "student" / name).read_bytes() for name in ("ema.safetensors", "model.safetensors")}
    extras["log.jsonl"] = b'{"step": 5, "loss": 1.0}\n'
    table = pa.table({"name": ["w"], "dtype": ["float16"], "shape": ["1"], "sha256": ["0"]}, tensors.SCHEMA)
    files = {"config.json": json.dumps(_checkpoint_settings(store)).encode()}
    made = ShardOutput(table, 1, tensors.SCHEMA, files=files, extras=extras)
    return seal(store, "checkpoint", [made], stage="pretrain")


def sealed_features(store: Store, rows: int = 6) -> ArtifactRef:
    """FEATURES of single images."""
    return _features(store, "features", rows, LATENT)


def sealed_pair_features(store: Store, rows: int = 4) -> ArtifactRef:
    """PAIR_FEATURES."""
    return _features(store, "pair_features", rows, (2, *LATENT))


def sealed_texts(store: Store, rows: int = 6, padded: bool = False) -> ArtifactRef:
    """The TEXTS of these features; of equal length where they are `padded`."""
    schema = texts_schema.schema(TEXT_DIM, "float16")
    words = [torch.from_numpy(wave(4 if padded else 2 + row % 3, TEXT_DIM, seed=row)) for row in range(rows)]
    ids, captions = [content_id("prompt", row) for row in range(rows)], list(CAPTIONS.values())
    columns = [
        pa.array(ids), pa.array([captions[row % len(captions)] for row in range(rows)]), text_array(words, "float16"),
        pa.array([len(text) for text in words], pa.int32()),
    ]  # fmt: skip
    encoding = TextEncoding.model_validate(_encoders(store, padded).model_dump(include={"text_dim", "text"}))
    made = ShardOutput(pa.Table.from_arrays(columns, schema=schema), rows, schema, files={TEXT_FILE: encoding.file()})
    return seal(store, "texts", [made])


def sealed_pairs(store: Store, encoded: ArtifactRef) -> ArtifactRef:
    """The PAIRS of these PAIR_FEATURES, whose margins grow."""
    rows = [
        {
            "id": id, "prompt_id": "p", "caption": "", "winner_id": "w", "loser_id": "l", "winner_generator": "links",
            "loser_generator": "student", "winner_score": 1.0, "loser_score": 0.0, "margin": 0.1 + 0.2 * place,
            "host": "", "source": "",
        }
        for place, id in enumerate(store.open(encoded).table(columns=["id"])["id"].to_pylist())
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=pairs_schema.SCHEMA)
    return seal(store, "pairs", [ShardOutput(table, len(rows), pairs_schema.SCHEMA)])


def _features(store: Store, kind: Any, rows: int, shape: tuple[int, ...]) -> ArtifactRef:
    schema = features_schema.schema(shape)
    captions = list(CAPTIONS.values())
    moments = [torch.from_numpy(wave(rows, *shape, seed=seed)).half() for seed in (1, 2)]
    columns = {
        "id": [content_id(kind, row) for row in range(rows)],
        "prompt_id": [content_id("prompt", row) for row in range(rows)],
        "caption": [captions[row % len(captions)] for row in range(rows)],
        "latent_mean": latent_array(moments[0]),
        "latent_std": latent_array(moments[1].abs() / 8),
    }
    table = pa.Table.from_arrays([pa.array(columns[name]) if isinstance(columns[name], list) else columns[name]
                                  for name in schema.names], schema=schema)  # fmt: skip
    return seal(store, kind, [ShardOutput(table, rows, schema, files={IMAGE_FILE: _encoders(store).image.file()})])


def described(store: Store, ref: ArtifactRef, drop: Sequence[str] = ()) -> dict[str, Output]:
    """A version: its plan, its rows without the columns `drop`, its rejects and JSON files, without revisions."""
    version = store.open(ref)
    files = {name: version.file(name).read_bytes() for name in content_files(version) if name.endswith(".json")}
    plan = version.plan.model_dump(mode="json")
    # By kind only: what a parent holds is not the affair of this stage.
    parents = [[parent.kind, parent.rows] for parent in version.plan.parents]
    rows = version.table().drop_columns(list(drop)).to_pylist()
    return {
        "plan": plain(without_revisions(plan | {"parents": parents})),
        "rows": [plain({name: _floats(value) for name, value in row.items()}) for row in rows],
        "rejects": [plain(row | {"row": json.loads(row["row"])}) for row in version.rejects().to_pylist()],
        "files": {name: plain(without_revisions(json.loads(data))) for name, data in files.items()},
    }


def content_files(version: Version) -> list[str]:
    """Names of the files that are content."""
    entries = [entry for receipt in version.manifest.shards for entry in receipt.files]
    return sorted({entry.name for entry in entries if entry.role == "file"})


def _floats(value: Any) -> Any:
    """Latents and texts as numbers: all bytes in rows are float16."""
    return np.frombuffer(value, np.float16).astype(float).tolist() if isinstance(value, bytes) else value


def without_revisions(value: Any) -> Any:
    """The value without the numbers that are raised by hand: a golden must not follow those of its parts."""
    if isinstance(value, dict):
        return {key: without_revisions(part) for key, part in value.items() if key != "revision"}
    return [without_revisions(part) for part in value] if isinstance(value, list) else value
