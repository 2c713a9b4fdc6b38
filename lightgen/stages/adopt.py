"""A folder of pictures that were drawn elsewhere -> PROMPTS and IMAGES, so that they are judged by the same code.

So far of one layout, GenEval's. A map over prompts. Memory: the files of one shard, and a line a prompt.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.engines.build import build
from lightgen.errors import InputChanged
from lightgen.evaluation.geneval_folder import Prompted, read_folder
from lightgen.seeds import content_id
from lightgen.storage.pixels import BadImage, decode_image
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas import images as images_schema
from schemas import prompts as prompts_schema
from schemas.canonical import canonical_json
from schemas.ref import ArtifactRef

PROMPTS = Stage("adopt_prompts", "prompts", revision=1)
IMAGES = Stage("adopt_images", "images", revision=1)
METADATA = "evaluation_metadata.jsonl"
log = logging.getLogger(__name__)


class AdoptConfig(Config):
    """Where the pictures lie, and how."""

    folder: str = Field(json_schema_extra=RUN)
    layout: Literal["geneval"] = "geneval"
    licence: str = Field(default="unknown", description="of the pictures")
    format: Literal["png"] = "png"
    shard_rows: int = Field(default=200, ge=1, description="prompts of a shard")
    max_reject_fraction: float = Field(default=0.5, ge=0, le=1, json_schema_extra=RUN)


def adopt(config: AdoptConfig, context: Context) -> tuple[ArtifactRef, ArtifactRef]:
    """PROMPTS, with METADATA beside them, and IMAGES of a folder. Raises InputCorrupt, InputChanged.

    Equal captions in two folders are one prompt; its pictures are counted on.
    """
    found = read_folder(Path(config.folder))
    if wrapped := sum(one.wrapped for one in found):
        log.warning("%s: the metadata of %d prompts wrap their strings in lists; they are read as meant", config.folder,
                    wrapped)  # fmt: skip
    shards = _shards(found, config)
    inputs = {"prompts": [[one.meaning.model_dump(mode="json", by_alias=True) for one in shard] for shard in shards]}
    plan = PROMPTS.plan(config, context.seed, [], len(shards), inputs={"prompts_sha256": _digest(inputs)})
    needs = Needs(unit="prompts", total=len(found))
    prompts = build(Work.of(plan, config, [], context, f"{__name__}:open_prompts", needs), context)
    files = [[hashlib.sha256(path.read_bytes()).hexdigest() for path in _files(shard)] for shard in shards]
    plan = IMAGES.plan(config, context.seed, [prompts], len(shards), {"files_sha256": [_digest(one) for one in files]})
    needs = Needs(unit="images", total=sum(map(len, files)))
    return prompts, build(Work.of(plan, config, [prompts], context, f"{__name__}:open_images", needs), context)


def open_prompts(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    config = AdoptConfig.model_validate(work.config)
    shards = _shards(read_folder(Path(config.folder)), config)

    def make_shard(shard: int) -> ShardOutput:
        facts = {"source": "geneval", "licence": config.licence, "novelty": 0.0, "image_id": None}
        start = sum(len(one) for one in shards[:shard])
        rows = [
            {"id": _prompt_id(one), "caption": one.meaning.prompt, "tokens": len(one.meaning.prompt.split()),
             "rank": start + place, **facts} for place, one in enumerate(shards[shard])
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, schema=prompts_schema.SCHEMA)
        lines = [one.meaning.model_dump_json(by_alias=True) for of_shard in shards for one in of_shard]
        files = {METADATA: "".join(f"{line}\n" for line in lines).encode()} if shard == 0 else {}
        return ShardOutput(table=table, schema=prompts_schema.SCHEMA, rows_in=len(rows), files=files)

    return make_shard


def open_images(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    config = AdoptConfig.model_validate(work.config)
    shards = _shards(read_folder(Path(config.folder)), config)
    known = cast("list[str]", work.plan.inputs["files_sha256"])

    def make_shard(shard: int) -> ShardOutput:
        rows, blobs, rejects, digests = [], [], [], []
        for one in shards[shard]:
            for index, path in one.samples.items():
                data = path.read_bytes()
                digests.append(hashlib.sha256(data).hexdigest())
                row = _row(one, index, digests[-1])
                pixels = decode_image(data)
                if isinstance(pixels, BadImage):
                    rejects.append(Reject(row["id"], pixels.reason, f"{path}: {pixels.detail}", row))
                    continue
                row |= {"height": pixels.shape[0], "width": pixels.shape[1]}
                rows.append(row)
                blobs.append({config.format: data, "json": canonical_json(row)})
                worker.progress.advance(1)
        if _digest(digests) != known[shard]:
            raise InputChanged(f"{config.folder}: pictures changed while they were read; adopt the folder again")
        table = pa.Table.from_pylist(rows, schema=images_schema.SCHEMA)
        count = len(rows) + len(rejects)
        return ShardOutput(table=table, schema=images_schema.SCHEMA, rows_in=count, rejects=rejects, blobs=blobs)

    return make_shard


def _row(one: Prompted, index: int, sha256: str) -> dict[str, Any]:
    prompt = _prompt_id(one)
    return {
        "id": content_id("adopted", prompt, index, sha256), "prompt_id": prompt, "caption": one.meaning.prompt,
        "index": index, "seed": 0, "generator": "adopted", "format": "png", "image_sha256": sha256,
    }  # fmt: skip


def _shards(found: Sequence[Prompted], config: AdoptConfig) -> list[list[Prompted]]:
    merged: dict[str, Prompted] = {}
    for prompted in found:
        one, known = prompted, merged.get(prompted.meaning.prompt)
        if known is not None:
            one = replace(known, samples=dict(enumerate([*known.samples.values(), *one.samples.values()])))
        merged[one.meaning.prompt] = one
    rows = list(merged.values())
    return [rows[start : start + config.shard_rows] for start in range(0, len(rows), config.shard_rows)]


def _files(shard: Sequence[Prompted]) -> list[Path]:
    return [path for one in shard for path in one.samples.values()]


def _prompt_id(one: Prompted) -> str:
    """As `source` and `select` name a caption, so that pictures of one caption are paired."""
    return content_id("caption", one.meaning.prompt)


def _digest(value: object) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
