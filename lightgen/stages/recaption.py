"""IMAGES (and KEPT) -> PROMPTS: a captioner writes a new caption for every image, or for those that are kept.

A map: shard i holds the prompts of image shard i, each with its `image_id`. The style of a caption is drawn from the
image's id, its seeds from the image's bytes. What other versions hold of the same image in the same style is taken
over, and batches of a slow or paid captioner are journalled. Memory: the pixels of one batch and the texts of a shard.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa
from pydantic import Field

from lightgen.captioners.base import Captioner, Rules, Shown, Written
from lightgen.captioners.config import CaptionerConfig
from lightgen.config import RUN
from lightgen.corpora.cleaning import Limits
from lightgen.corpora.tokenizer import TokenizerConfig, Words, counter
from lightgen.engines.build import build
from lightgen.errors import ConfigError, RefNotFound, StoreCorrupt
from lightgen.http import unsettled
from lightgen.problems import Problem
from lightgen.progress import Progress
from lightgen.seeds import content_id, derive_seed
from lightgen.storage.journal import Journal
from lightgen.storage.pixels import BadImage, Pixels, decode_image
from lightgen.storage.plans import Stage
from lightgen.storage.reuse import Lender, family_of, lenders, taken
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.prompts import RECAPTIONED
from schemas.ref import ArtifactRef

STAGE = Stage("recaption", "prompts", revision=1)
READ = ["id", "caption", "image_sha256"]
JOURNAL = pa.schema(
    [pa.field("key", pa.string(), nullable=False)]
    + [pa.field(name, pa.string(), nullable=False) for name in ("caption", "answer", "reason", "detail")]
    + [pa.field("tokens", pa.int32(), nullable=False)]
)


class RecaptionConfig(Limits):
    """Who writes, and what a caption must be."""

    captioner: CaptionerConfig
    tokenizer: Words | TokenizerConfig = Field(
        default="words", description="`words`, or `model`, `revision` and `subfolder` of a transformers tokenizer"
    )
    workers: int = Field(default=2, ge=1, description="threads that decode", json_schema_extra=RUN)
    max_reject_fraction: float = Field(default=0.5, ge=0, le=1, json_schema_extra=RUN)

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: styles whose captions would all be too long."""
        for place, style in enumerate(getattr(self.captioner, "styles", ())):
            if style.min_tokens > self.max_tokens:
                what = f"style {style.name} asks for {style.min_tokens} tokens, and max_tokens is {self.max_tokens}"
                yield Problem("recipe", f"captioner.styles.{place}.min_tokens", what, "make them meet")


@dataclass(frozen=True)
class _Row:
    """An image that wants a caption."""

    image_id: str
    image_sha256: str
    original: str
    source: str
    licence: str
    style: str
    key: str
    """What its caption hangs on, beside the settings."""


Found = dict[str, Written]  # by key


def recaption(images: ArtifactRef, kept: ArtifactRef | None, config: RecaptionConfig, context: Context) -> ArtifactRef:
    """A prompt of every image, or of those that are kept. Raises TryLater, ServiceRefused, SpendLimit."""
    source = context.store.open(images)
    parents = [images] if kept is None else [images, kept]
    if kept is not None and (other := context.store.open(kept)).n_shards != source.n_shards:
        raise ConfigError(f"recaption: {images} has {source.n_shards} shards and {kept} {other.n_shards}: not of these")
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    needs = Needs(gpu=config.captioner.wants_gpu, unit="images", total=parents[-1].rows)
    family = family_of(STAGE.revision, plan.config, plan.seed)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs, family), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Finds who lends captions, and loads the captioner when one must be written; see `lightgen.work`."""
    config = RecaptionConfig.model_validate(work.config)
    source, *kept = (worker.store.open(ref) for ref in work.parents)
    lent = _Lent(worker.store, config.captioner.looks)
    known = [Lender(one, lent.keys) for one in lenders(worker.store, work.plan, work.family)]
    captioner = cache(lambda: config.captioner.open(worker, Rules(config, counter(config.tokenizer))))

    def make_shard(shard: int) -> ShardOutput:
        wanted = kept[0].table(shard, columns=["id"])["id"].to_pylist() if kept else None
        rows = _rows(source, shard, wanted, config, work.plan.seed)
        found = lent.of(known, shard, rows)
        worker.progress.advance(len(found))
        reused = sum(row.key in found for row in rows)
        journal = Journal(worker.store.files, work.plan, shard) if config.captioner.journals else None
        found |= _journalled(journal)
        batches = _batches(source, shard, [row for row in rows if row.key not in found], config, work.plan.seed)
        found |= _written(batches, captioner, journal, worker.progress)
        return _output(rows, found, reused)

    return make_shard


def style_of(image_id: str, weights: dict[str, float], seed: int) -> str:
    """The style of an image's caption: the same for the same id, styles by their weights among many."""
    share = derive_seed(seed, "style", image_id) / 2**63 * sum(weights.values())
    for name, weight in weights.items():
        share -= weight
        if share < 0:
            return name
    return list(weights)[-1]


def _rows(source: Version, shard: int, wanted: Sequence[str] | None, config: RecaptionConfig, seed: int) -> list[_Row]:
    """Images of a shard that want a caption. Raises StoreCorrupt where one is kept that is not there."""
    table, chosen = source.table(shard), None if wanted is None else set(wanted)
    if chosen is not None and not chosen <= set(table["id"].to_pylist()):
        raise StoreCorrupt(f"recaption: shard {shard} keeps images that are not in {source.ref}")
    names = [*READ, *(name for name in ("source", "licence") if name in table.column_names)]
    rows = []
    for row in table.select(names).to_pylist():
        if chosen is None or row["id"] in chosen:
            style = style_of(row["id"], config.captioner.styles_by_weight, seed)
            key = _key(row["image_sha256"], style, row["caption"], config.captioner.looks)
            facts = (row["caption"], row.get("source", ""), row.get("licence", ""))
            rows.append(_Row(row["id"], row["image_sha256"], *facts, style, key))
    return rows


def _key(image_sha256: str, style: str, original: str, looks: bool) -> str:
    """A captioner that looks at pictures is not told what they came with."""
    return content_id(image_sha256, style, "" if looks else original)


def _written(
    batches: Iterator[tuple[list[_Row], list[Shown | BadImage]]], captioner: Callable[[], Captioner],
    journal: Journal | None, progress: Progress,
) -> Found:  # fmt: skip
    """Captions of images by key; what is finished of a batch that a service ends is kept. Raises what ended it."""
    found: Found = {}
    for rows, shown in batches:
        made = dict(zip([row.key for row in rows], _answers(shown, captioner), strict=True))
        errors = {key: error for key, one in made.items() if (error := unsettled(one.reason, one.detail))}
        settled = {key: one for key, one in made.items() if key not in errors}
        if journal is not None:
            entries = [{"key": key, **vars(one)} for key, one in settled.items()]
            journal.add(pa.Table.from_pylist(entries, schema=JOURNAL))
        for error in errors.values():
            raise error
        found |= settled
        progress.advance(len(rows))
    return found


def _answers(shown: Sequence[Shown | BadImage], captioner: Callable[[], Captioner]) -> list[Written]:
    """What is written of each picture; one that cannot be read is not shown."""
    asked = [one for one in shown if not isinstance(one, BadImage)]
    answers = iter(captioner().write(asked) if asked else [])
    refused = [Written(reason=one.reason, detail=one.detail) if isinstance(one, BadImage) else None for one in shown]
    return [one or next(answers) for one in refused]


def _batches(
    source: Version, shard: int, rows: Sequence[_Row], config: RecaptionConfig, seed: int
) -> Iterator[tuple[list[_Row], list[Shown | BadImage]]]:
    """Images that are to be shown, a batch of the captioner's at a time; equal ones in the same style once."""
    once = list({row.key: row for row in rows}.values())
    size = config.captioner.batch
    members: dict[str, dict[str, bytes]] = {}
    if config.captioner.looks:
        members = source.members_of(shard, [row.image_id for row in once])
    with ThreadPoolExecutor(config.workers) as pool:
        for start in range(0, len(once), size):
            batch = list(itertools.islice(once, start, start + size))
            files = [_file(members[row.image_id]) for row in batch if members]
            pixels = list(pool.map(decode_image, files)) if files else [None] * len(batch)
            yield batch, [_shown(row, image, seed) for row, image in zip(batch, pixels, strict=True)]


def _file(members: dict[str, bytes]) -> bytes:
    return next(data for name, data in members.items() if name != "json")


def _shown(row: _Row, image: Pixels | BadImage | None, seed: int) -> Shown | BadImage:
    if isinstance(image, BadImage):
        return image
    return Shown(image, row.original, row.style, derive_seed(seed, "recaption", row.image_sha256, row.style))


def _output(rows: Sequence[_Row], found: Found, reused: int) -> ShardOutput:
    made, rejects = [], []
    for row in rows:
        one, id = found[row.key], content_id("recaption", row.image_id)
        if one.reason:
            refused = {name: value for name, value in vars(row).items() if name != "key"}
            rejects.append(Reject(id, one.reason, one.detail, {**refused, "answer": one.answer}))
            continue
        facts = {name: getattr(row, name) for name in ("source", "licence", "image_id", "style", "original")}
        written = {"caption": one.caption, "tokens": one.tokens, "answer": one.answer}
        made.append({"id": id, "rank": 0, "novelty": 0.0, **facts, **written})
    table = pa.Table.from_pylist(made, schema=RECAPTIONED)
    return ShardOutput(table=table, schema=RECAPTIONED, rejects=rejects, rows_in=len(rows), rows_reused=reused)


@dataclass(frozen=True)
class _Lent:
    """Captions of other versions, by key."""

    store: Store
    looks: bool

    def keys(self, version: Version, shard: int) -> list[str]:
        """Of all rows and rejects of a shard."""
        return list(self._by_key(version, shard))

    def of(self, known: Sequence[Lender], shard: int, rows: Sequence[_Row]) -> Found:
        """Captions and refusals of these images."""
        found: Found = {}
        for lender, where, keys in taken(known, shard, list({row.key for row in rows})):
            there = self._by_key(lender.version, where)
            found |= {key: there[key] for key in keys}
        return found

    def _by_key(self, version: Version, shard: int) -> Found:
        """None where the images of the version are gone."""
        try:
            images = self.store.open(version.parent("images")).table(shard, columns=["id", "image_sha256"])
        except (RefNotFound, StoreCorrupt):
            return {}
        digests = dict(zip(images["id"].to_pylist(), images["image_sha256"].to_pylist(), strict=True))
        found: Found = {}
        for row in version.table(shard).to_pylist():
            key = _key(digests[row["image_id"]], row["style"], row["original"], self.looks)
            found[key] = Written(row["caption"], row["tokens"], row["answer"])
        for reject in version.rejects(shard).to_pylist():
            lost: dict[str, Any] = json.loads(reject["row"])
            key = _key(lost["image_sha256"], lost["style"], lost["original"], self.looks)
            found[key] = Written(answer=lost["answer"], reason=reject["reason"], detail=reject["detail"])
        return found


def _journalled(journal: Journal | None) -> Found:
    tables = journal.read() if journal is not None else []
    rows = [row for table in tables for row in table.to_pylist()]
    return {row.pop("key"): Written(**row) for row in rows}
