"""KEPT + IMAGES + VAE -> FEATURES: VAE latent moments of every kept image, with the id of its prompt.

PROMPTS that were written for images take the place of KEPT: then the prompt is theirs. What a prompt says is encoded by
stage `texts`, once for all its images and all resolutions. A map. Memory: the decoded images and features of one shard.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from lightgen.config import QUIET, RUN, Config
from lightgen.encoders.features import Encoder
from lightgen.encoders.image_files import files_of
from lightgen.encoders.mirror import Flips, may_mirror
from lightgen.encoders.restore import IMAGE_FILE, ImageEncoding
from lightgen.encoders.vae import VaeConfig, load_vae, read_identity
from lightgen.engines.build import build
from lightgen.errors import ConfigError
from lightgen.seeds import content_id
from lightgen.storage.plans import Stage
from lightgen.storage.reuse import Lender, LentShard, family_of, lenders, taken
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef

STAGE = Stage("encode", "features", revision=2)
NAMES = ["id", "prompt_id", "caption"]


class EncodeConfig(Config):
    """How images become latents."""

    size_px: int = Field(default=256, ge=8, description="side of the square the image is cropped to")
    crop: Literal["adm"] = Field(
        default="adm",
        description="adm: halved while twice as large, then bicubic, then the middle, as OpenAI's ADM does",
    )
    vae: VaeConfig = Field(description="images to latents")
    flips: Flips = Field(
        default="off",
        description="mirrored latents too, training reads half; safe: where captions know no sides; all: as published",
    )
    std_bits: Literal[8, 16] = Field(
        default=16, description="of the latents' standard deviations; 8: logarithms", json_schema_extra=QUIET
    )
    max_error: float = Field(
        default=0.02, gt=0, description="relative L2 that 8 bits may cost; more ends the stage", json_schema_extra=RUN
    )
    batch: int = Field(default=32, ge=1, description="images at a time through the VAE", json_schema_extra=RUN)
    workers: int = Field(default=2, ge=1, description="threads that decode meanwhile", json_schema_extra=RUN)
    max_reject_fraction: float = Field(
        default=0.05, ge=0, le=1, description="more rejects than this end the stage", json_schema_extra=RUN
    )


def encode(
    kept: ArtifactRef, images: ArtifactRef, vae: ArtifactRef, config: EncodeConfig, context: Context
) -> ArtifactRef:
    """Features of every kept image, in shards of the images; rows that are not finite are rejected.

    `kept` is KEPT, or PROMPTS with an `image_id`.
    """
    source, sealed = context.store.open(kept), context.store.open(vae)
    wanted, made = config.vae.identity(), read_identity(sealed)
    if json.loads(json.dumps(wanted)) != made:
        raise ConfigError(f"{sealed.ref} was made with {made}, encode.vae says {wanted}; give both stages the same")
    parents = [kept, images, vae]
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    needs = Needs(gpu=config.vae.wants_gpu, unit="images", total=source.rows)
    family = family_of(STAGE.revision, plan.config, vae.content)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs, family), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the VAE; see `lightgen.work`."""
    config = EncodeConfig.model_validate(work.config)
    kept, images, vae = map(worker.store.open, work.parents)
    keys_of = partial(_lender_keys, worker.store, config.flips)
    known = [Lender(one, keys_of) for one in lenders(worker.store, work.plan, work.family)]
    loaded = load_vae(vae, worker.store, worker.device)
    encoder = Encoder(
        config.size_px, config.batch, loaded, config.flips, workers=config.workers, std_bits=config.std_bits,
        max_error=config.max_error,
    )  # fmt: skip
    made_by = ImageEncoding(size_px=config.size_px, latent_shape=encoder.shape, vae=vae.ref.content)

    def make_shard(shard: int) -> ShardOutput | LentShard:
        rows = looked_at(kept, images, shard)
        keys = _keys(rows, config.flips)
        for lender in known:
            if lender.shard_keys(shard) == keys and _same_names(lender.version, shard, rows):
                worker.progress.advance(rows.num_rows)
                return LentShard(lender.version, shard)
        copied = copied_rows(known, shard, rows, keys, encoder.schema)
        worker.progress.advance(copied.num_rows)
        fresh = rows.filter(pc.invert(pc.is_in(rows["id"], copied["id"].combine_chunks())))
        files = files_of(images, shard, set(fresh["id"].to_pylist()))
        made = encoder.shard(fresh, files, worker.progress)
        table = in_order_of(pa.concat_tables([copied, made.table]), rows)
        content = {IMAGE_FILE: made_by.file()} if shard == 0 else {}
        return replace(made, table=table, rows_in=rows.num_rows, rows_reused=copied.num_rows, files=content)

    return make_shard


def looked_at(kept: Version, images: Version, shard: int) -> pa.Table:
    """Kept rows of a shard with the digest of their image, in the order of KEPT."""
    of_prompts = kept.ref.kind == "prompts"
    rows = kept.table(shard, columns=["image_id", "id", "caption"] if of_prompts else NAMES)
    rows = rows.rename_columns(NAMES)
    digests = images.table(shard, columns=["id", "image_sha256"])
    place = pc.index_in(rows["id"], digests["id"].combine_chunks())
    return rows.append_column("image_sha256", digests["image_sha256"].take(place))


def _keys(rows: pa.Table, flips: Flips) -> list[str]:
    """Keys of rows by what decides their latents: the bytes of the image, and whether it may be mirrored.

    A new caption thus leaves the latents of its image as they are.
    """
    captions = rows["caption"].to_pylist()
    allowed = [may_mirror(caption, flips) for caption in captions]
    return [content_id(sha256, may) for sha256, may in zip(rows["image_sha256"].to_pylist(), allowed, strict=True)]


def _lender_keys(store: Store, flips: Flips, version: Version, shard: int) -> list[str]:
    """Keys of the rows of a FEATURES version; its images say of which bytes they are."""
    return _keys(looked_at(version, store.open(version.parent("images")), shard), flips)


def _same_names(version: Version, shard: int, rows: pa.Table) -> bool:
    """Whether a shard has the rows of these ids, of these prompts: a row is about its image, not any of its bytes."""
    theirs = version.table(shard, columns=NAMES)
    return all(theirs[name].equals(rows[name]) for name in NAMES)


def copied_rows(known: list[Lender], shard: int, rows: pa.Table, keys: list[str], schema: pa.Schema) -> pa.Table:
    """Features that other versions hold of these images, under the ids of `rows`; repeats of one image are left out."""
    often = Counter(keys)
    mine = {key: place for place, key in enumerate(keys) if often[key] == 1}
    parts = [schema.empty_table()]
    for lender, where, found in taken(known, shard, list(mine)):
        table, theirs = lender.version.table(where), {k: place for place, k in enumerate(lender.shard_keys(where))}
        at = pa.array([theirs[key] for key in found], pa.int64())
        names = rows.take(pa.array([mine[key] for key in found], pa.int64()))
        columns = {**{name: table[name].take(at) for name in schema.names}}
        columns |= {name: names[name] for name in NAMES}
        parts.append(pa.table([columns[name] for name in schema.names], schema=schema))
    return pa.concat_tables(parts)


def in_order_of(table: pa.Table, rows: pa.Table) -> pa.Table:
    """Rows of `table` in the order that their ids have in `rows`."""
    place = pc.index_in(table["id"], rows["id"].combine_chunks())
    return table.take(pc.sort_indices(place))
