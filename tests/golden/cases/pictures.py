"""Sets of pictures, and the images that are made of them."""

import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.corpora.picture_folder import PictureFolder
from lightgen.corpora.picture_tables import PictureTables
from lightgen.corpora.picture_tars import PictureTars
from lightgen.corpora.pictures import PictureSet
from lightgen.stages import pictures as stage
from lightgen.stages.pictures import PicturesConfig
from tests.golden.compare import plain
from tests.golden.given import INPUTS, context
from tests.golden.subject import Output, Subject, Tolerance

NAMES = ("scene-0", "scene-1", "near", "flat")
EXACT = Tolerance(levels=1)
SET = {"source": "mine", "path": "."}
LIST = [{"kind": "text", "source": "test", "path": "."}]
SETTINGS = {
    "plain": SET, "described": SET | {"source": "other", "caption": "long", "licence": "CC0", "drawn_by": "dall-e-3"},
}  # fmt: skip


def subjects() -> list[Subject]:
    """One a member, and the stage."""
    listed = {"listed": SET | {"captions": "list.csv", "name": "picture", "caption": "long"}}
    column = {"column": SET | {"image": "seen", "caption": "long"}}
    folder = {**SET, "kind": "folder"}
    cropped = {"crop_px": 24, "format": "png", "enlarge": True, "quality": 70}
    strict = {
        "min_side_px": 40, "max_aspect": 1.5, "shard_rows": 2, "max_tokens": 4, "min_characters": 5,
        "max_characters": 30,
    }  # fmt: skip
    return [
        Subject("pictures folder", (PictureFolder,), PictureFolder, SETTINGS | listed, _reads(_folder), EXACT),
        Subject("pictures webdataset", (PictureTars,), PictureTars, SETTINGS, _reads(_tar), EXACT),
        Subject("pictures parquet", (PictureTables,), PictureTables, SETTINGS | column, _reads(_table), EXACT),
        Subject("stage pictures", (stage,), PicturesConfig,
                {"plain": {"sets": [folder], "min_side_px": 8},
                 "cropped": {"sets": [folder], "min_side_px": 8, **cropped},
                 "webp": {"sets": [folder | {"limit": 1}], "min_side_px": 9, "crop_px": 16, "format": "webp"},
                 "strict": {"sets": [folder], **strict},
                 "evaluated": {"sets": [folder], "min_side_px": 8, "evaluation": LIST},
                 "alike": {"sets": [folder], "min_side_px": 8, "evaluation": LIST,
                           "contamination": {"containment": 0.5, "words": 1}}},
                _stage, EXACT),
    ]  # fmt: skip


def _caption(number: int) -> dict[str, Any]:
    return {"caption": f"picture {number}", "long": f"a long caption of picture {number}"}


def _folder(folder: Path) -> Path:
    rows = ["picture,long"]
    for number, name in enumerate(NAMES):
        (folder / f"{name}.png").write_bytes((INPUTS / f"{name}.png").read_bytes())
        (folder / f"{name}.json").write_text(json.dumps(_caption(number)))
        rows.append(f"{name}.png,listed {number}")
    (folder / "near.json").unlink()
    (folder / "prompts.txt").write_text("picture 1\npicture 9 by night\n")
    (folder / "list.csv").write_text("\n".join([*rows, "missing.png,nothing"]))
    return folder


def _tar(folder: Path) -> Path:
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number, name in enumerate(NAMES):
            data = (INPUTS / f"{name}.png").read_bytes()
            members = {f"./{name}.png": data, f"./{name}.json": json.dumps(_caption(number)).encode()}
            members |= {f"./{name}.txt": b"beside"} if number == 1 else {}
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
    return folder


def _table(folder: Path) -> Path:
    files = [(INPUTS / f"{name}.png").read_bytes() for name in NAMES]
    structs = [{"bytes": data, "path": name} for name, data in zip(NAMES, reversed(files), strict=True)]
    captions = [_caption(number) for number in range(len(NAMES))]
    columns = {"image": files, "seen": structs, "caption": [one["caption"] for one in captions]}
    pq.write_table(pa.table({**columns, "long": [one["long"] for one in captions]}), folder / "a.parquet")
    return folder


def _reads(make: Callable[[Path], Path]) -> Any:
    """Every picture of ranges of two."""

    def run(member: PictureSet, folder: Path) -> Output:
        folder.mkdir(exist_ok=True)
        placed = member.model_copy(update={"path": str(make(folder))})
        found = []
        for file in placed.files():
            inventory = file.cut(2)
            for place in inventory.places():
                found += [vars(one) for one in file.read_range(inventory, place, folder)]
        return [{**one, "data": len(one["data"]), "caption": _text(one["caption"])} for one in found]

    return run


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _stage(config: PicturesConfig, folder: Path) -> Output:
    works, given = context(folder), folder / "given"
    given.mkdir(parents=True, exist_ok=True)
    placed = [one.model_copy(update={"path": str(_folder(given))}) for one in config.sets]
    lists = [one.model_copy(update={"path": str(given / "prompts.txt")}) for one in config.evaluation or []]
    changed = {"sets": placed, "evaluation": lists or None, "max_reject_fraction": 1.0}
    version = works.store.open(stage.pictures(config.model_copy(update=changed), works))
    rows, rejects = [], []
    for shard in range(version.n_shards):
        rows += version.table(shard).to_pylist()
        rejects += version.rejects(shard).to_pylist()
    # Bytes of JPEG and WebP differ between versions of their libraries.
    return plain({
        "rows": [{name: value for name, value in row.items() if name != "image_sha256"} for row in rows],
        "rejects": [[one["id"], one["reason"]] for one in rejects],
    })  # fmt: skip
