"""Sets of pictures -> IMAGES: pictures that exist, whoever drew or took them, with their captions.

A map over ranges of the sets, as `source` is over those of corpora. A picture is kept byte for byte unless `crop_px`
asks for a square; what is no picture, too small, too long for its width, has no caption, or has one that gives a prompt
of the evaluation away is a reject with its reason.
From here on they are images like a generator's: scored, filtered, captioned, encoded, evaluated. Memory: the files of
one shard, and 100 bytes a shard for the inventory.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pydantic import Field, TypeAdapter

from lightgen.config import QUIET, RUN
from lightgen.corpora.cleaning import Cleaned, Limits, clean
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.inventory import take_inventory
from lightgen.corpora.picture_config import PictureSetConfig
from lightgen.corpora.pictures import Found, PictureSet
from lightgen.corpora.prompt_lists import read_as_planned, read_prompt_lists
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.sharding import count_shards, ranges_of
from lightgen.corpora.tokenizer import counter
from lightgen.decisions.contamination import ContaminationConfig, contaminated
from lightgen.engines.build import build
from lightgen.fetch.finishing import Keeping, finish
from lightgen.fetch.states import Failed
from lightgen.problems import Problem
from lightgen.seeds import content_id
from lightgen.storage.pixels import ImageFormat
from lightgen.storage.pixels import Limits as PictureLimits
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.canonical import canonical_json
from schemas.images import IMPORTED
from schemas.ref import ArtifactRef

STAGE = Stage("pictures", "images", revision=1)
INVENTORIES = TypeAdapter(list[list[Inventory]])
NO_LIMIT, DETAIL = 1 << 30, 500


class PicturesConfig(Limits):
    """Which sets, and what a picture and its caption must be."""

    sets: list[PictureSetConfig] = Field(min_length=1, description="read one after the other")
    evaluation: list[CorpusConfig] | None = Field(
        default=None,
        description="prompts that no caption may give away; null: those of select, where the recipe has any",
        json_schema_extra=QUIET,
    )
    contamination: ContaminationConfig = Field(
        default=ContaminationConfig(),
        description="when a caption is too like one of the evaluation; with those of select, as select says",
        json_schema_extra=QUIET,
    )
    max_tokens: int = Field(default=NO_LIMIT, ge=1, description="words of a caption; more are refused")
    crop_px: int | None = Field(
        default=None, ge=16, le=4096,
        description="scale to this short side, take the centre square and encode again; null: byte for byte as it is",
    )  # fmt: skip
    enlarge: bool = Field(default=False, description="also pictures smaller than crop_px; false: they are refused")
    format: ImageFormat = Field(default="jpg", description="of what is cropped")
    quality: int = Field(default=95, ge=1, le=100, description="of what is cropped")
    min_side_px: int = Field(default=64, ge=1, description="pictures with a shorter side are refused")
    max_aspect: float = Field(default=4.0, ge=1, description="longer side over the shorter; more is refused")
    shard_rows: int = Field(default=1000, ge=1, description="pictures a shard")
    max_reject_fraction: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    @property
    def keeping(self) -> Keeping:
        """What a picture must be, and how it is kept."""
        least = self.min_side_px if self.enlarge or self.crop_px is None else max(self.min_side_px, self.crop_px)
        limits = PictureLimits(min_side_px=least, aspect=self.max_aspect)
        return Keeping(limits, self.crop_px, self.format, self.quality)

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: pictures of unknown licence."""
        for place, one in enumerate(self.sets):
            if one.licence == "unknown":
                what = f"the licence of {one.source} is not said"
                yield Problem(
                    "recipe", f"sets.{place}.licence", what, "say it: it is kept with every picture", "remark"
                )

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: small pictures."""
        least = {"min_side_px": min(self.min_side_px, 32), "enlarge": True, "max_reject_fraction": 1.0}
        return super().rehearse(folder).model_copy(update=least)


def pictures(config: PicturesConfig, context: Context) -> ArtifactRef:
    """Images of all sets; a shard is a range of one file, so a file that grows at its end leaves the shards before.

    The same content under another path is the same version. Raises InputCorrupt, InputChanged, ConfigError.
    """
    found = [[take_inventory(file, config.shard_rows) for file in one.files()] for one in config.sets]
    every = [one for files in found for one in files]
    n_shards = count_shards(STAGE.name, every)
    inputs: dict[str, Any] = {"sets": [[one.model_dump(mode="json") for one in files] for files in found]}
    if config.evaluation:
        inputs["evaluation"] = [one.facts for one in read_prompt_lists(config.evaluation)]
    plan = STAGE.plan(config, context.seed, [], n_shards, inputs)
    needs = Needs(unit="images", total=sum(one.rows for one in every))
    return build(Work.of(plan, config, [], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Finds the range of every shard; see `lightgen.work`."""
    config = PicturesConfig.model_validate(work.config)
    found, scratch = INVENTORIES.validate_python(work.plan.inputs["sets"]), worker.store.scratch(work.plan)
    files = [file for one in config.sets for file in one.files()]
    every = [one for inventories in found for one in inventories]
    shards = ranges_of(STAGE.name, files, every)
    lists = read_as_planned(config.evaluation or [], work.plan.inputs.get("evaluation", []), STAGE.name)
    prompts = [prompt for one in lists for prompt in one.prompts]

    def make_shard(shard: int) -> ShardOutput:
        if not shards:
            return kept([], "", config.sets[0], config)
        file, ordinal, inventory, place = shards[shard]
        prefix = f"{content_id('pictures', file.key)[:14]}{ordinal:06x}"
        made = kept(file.read_range(inventory, place, scratch), prefix, file, config, prompts)
        worker.progress.advance(made.rows_in)
        return made

    return make_shard


def kept(
    found: Iterable[Found], prefix: str, of: PictureSet, config: PicturesConfig, prompts: Sequence[str] = ()
) -> ShardOutput:
    """A shard of images and rejects; the id of a picture is `prefix` and its row, so ids sort as pictures stand."""
    rows, blobs, rejects, count, keeping = [], [], [], counter("words"), config.keeping
    told: list[dict[str, Any]] = []  # of rows, what a reject would say
    for one in found:
        id, known = f"{prefix}{one.row:012x}", _known(one, of)
        caption = clean(one.caption, config, count) if not one.reason else (one.reason, one.detail)
        if not isinstance(caption, Cleaned):
            rejects.append(Reject(id, *caption, known))
            continue
        made = finish(one.data, keeping)
        if isinstance(made, Failed):
            rejects.append(Reject(id, made.reason, made.detail, known))
            continue
        row = {
            "id": id, "prompt_id": content_id("caption", caption.caption), "caption": caption.caption, "index": 0,
            "seed": 0, "generator": of.drawn_by, "width": made.width, "height": made.height, "format": made.format,
            "image_sha256": made.sha256, "file": one.name, "source": of.source, "licence": of.licence,
        }  # fmt: skip
        rows.append(row)
        told.append(known)
        blobs.append({made.format: made.data, "json": canonical_json(row)})
    rows_in = len(rows) + len(rejects)
    why = contaminated([row["caption"] for row in rows], prompts, config.contamination)
    rejects += [Reject(rows[at]["id"], "contaminated", said, told[at]) for at, said in why.items()]
    rejects.sort(key=lambda reject: reject.id)
    blobs = [blob for at, blob in enumerate(blobs) if at not in why]
    table = pa.Table.from_pylist([row for at, row in enumerate(rows) if at not in why], schema=IMPORTED)
    return ShardOutput(table=table, schema=IMPORTED, rejects=rejects, rows_in=rows_in, blobs=blobs)


def _known(one: Found, of: PictureSet) -> dict[str, Any]:
    text = one.caption.decode("utf-8", "backslashreplace") if isinstance(one.caption, bytes) else one.caption or ""
    text = text.encode("utf-8", "backslashreplace").decode()
    return {"file": one.name, "caption": text[:DETAIL], "source": of.source, "licence": of.licence}
