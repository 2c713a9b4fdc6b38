"""IMAGES (and KEPT) -> PROMPTS: a captioner writes a new caption for every image, or for those that are kept.

A map: shard i holds the prompts of image shard i, each with its `image_id`. The style of a caption is drawn from the
image's id, its seeds from the image's bytes. What other versions hold of the same image in the same style is taken
over, and batches of a slow or paid captioner are journalled. Memory: the pixels of one batch and the texts of a shard.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import pyarrow as pa
from pydantic import Field

from lightgen.captioners.base import Rules
from lightgen.captioners.config import CaptionerConfig
from lightgen.captioners.writing import Found, Lent, Showing, Wanted, journalled, key_of, write, written
from lightgen.config import QUIET, RUN
from lightgen.corpora.cleaning import Limits
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.prompt_lists import read_as_planned, read_prompt_lists
from lightgen.corpora.tokenizer import TokenizerConfig, Words, counter
from lightgen.decisions.contamination import ContaminationConfig, contaminated
from lightgen.engines.build import build
from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.problems import Problem
from lightgen.seeds import content_id, derive_seed
from lightgen.storage.journal import Journal
from lightgen.storage.plans import Stage
from lightgen.storage.reuse import Lender, family_of, lenders
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.prompts import RECAPTIONED
from schemas.ref import ArtifactRef

STAGE = Stage("recaption", "prompts", revision=3)
READ = ["id", "caption", "image_sha256"]
REVISED = "revised"  # words that a service drew in place of the caption
SOURCED = ("source", "licence")  # of images that were fetched


class RecaptionConfig(Limits):
    """Who writes, and what a caption must be."""

    captioner: CaptionerConfig = Field(description="who writes")
    tokenizer: Words | TokenizerConfig = Field(
        default="words", description="`words`, or `model`, `revision` and `subfolder` of a transformers tokenizer"
    )
    evaluation: list[CorpusConfig] = Field(
        default_factory=list, description="prompts that no caption may give away, as in select", json_schema_extra=QUIET
    )
    contamination: ContaminationConfig = Field(
        default=ContaminationConfig(),
        description="when a caption is too like one of the evaluation",
        json_schema_extra=QUIET,
    )
    workers: int = Field(default=2, ge=1, description="threads that decode", json_schema_extra=RUN)
    max_reject_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: styles whose captions would all be too long."""
        for place, style in enumerate(getattr(self.captioner, "styles", ())):
            if style.min_tokens > self.max_tokens:
                what = f"style {style.name} asks for {style.min_tokens} tokens, and max_tokens is {self.max_tokens}"
                yield Problem("recipe", f"captioner.styles.{place}.min_tokens", what, "make them meet")


def recaption(images: ArtifactRef, kept: ArtifactRef | None, config: RecaptionConfig, context: Context) -> ArtifactRef:
    """A prompt of every image, or of those that are kept. Raises TryLater, ServiceRefused, SpendLimit."""
    source = context.store.open(images)
    parents = [images] if kept is None else [images, kept]
    if kept is not None and (other := context.store.open(kept)).n_shards != source.n_shards:
        raise ConfigError(
            f"recaption: {images} has {source.n_shards} shards and {kept} {other.n_shards}: it was not kept of these"
        )
    lists = [one.facts for one in read_prompt_lists(config.evaluation)]
    inputs = {"evaluation": lists} if lists else {}
    plan = STAGE.plan(config, context.seed, parents, source.n_shards, inputs)
    needs = Needs(gpu=config.captioner.wants_gpu, unit="images", total=parents[-1].rows)
    family = family_of(STAGE.revision, plan.config, plan.seed, *lists)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs, family), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Finds who lends captions, and loads the captioner when one must be written; see `lightgen.work`."""
    config = RecaptionConfig.model_validate(work.config)
    source, *kept = (worker.store.open(ref) for ref in work.parents)
    showing = Showing(config.captioner, config.workers, work.plan.seed)
    lent = Lent(worker.store, config.captioner.looks)
    known = [Lender(one, lent.keys) for one in lenders(worker.store, work.plan, work.family)]
    lists = read_as_planned(config.evaluation, work.plan.inputs.get("evaluation", []), STAGE.name)
    asked = [prompt for one in lists for prompt in one.prompts]
    captioner = cache(lambda: config.captioner.open(worker, Rules(config, counter(config.tokenizer))))

    def make_shard(shard: int) -> ShardOutput:
        chosen = set(kept[0].table(shard, columns=["id"])["id"].to_pylist()) if kept else None
        rows = wanted_of(source, shard, chosen, showing)
        found = lent.of(known, shard, rows)
        reused = sum(row.key in found for row in rows)
        journal = Journal(worker.store.files, work.plan, shard) if config.captioner.journals else None
        found |= journalled(journal)
        left = [row for row in rows if row.key not in found]
        worker.progress.advance(len(rows) - len({row.key for row in left}))
        found |= written(write(source, shard, left, showing, captioner, worker.progress), journal)
        return _output(rows, without_prompts(found, asked, config.contamination), reused)

    return make_shard


def style_of(image_id: str, weights: Mapping[str, float], seed: int) -> str:
    """The style of an image's caption: the same for the same id, and each style by its weight among many ids."""
    share = derive_seed(seed, "style", image_id) / 2**63 * sum(weights.values())
    for name, weight in weights.items():
        share -= weight
        if share < 0:
            return name
    return list(weights)[-1]


def wanted_of(source: Version, shard: int, chosen: set[str] | None, showing: Showing) -> list[Wanted]:
    """Images of a shard that want a caption. Raises StoreCorrupt where one is chosen that is not there."""
    table = source.table(shard)
    if chosen is not None and not chosen <= set(table["id"].to_pylist()):
        raise StoreCorrupt(f"recaption: shard {shard} keeps images that are not in {source.ref}")
    names = [*READ, *(name for name in (*SOURCED, REVISED) if name in table.column_names)]
    weights, looks = showing.member.styles_by_weight, showing.member.looks
    rows = []
    for row in table.select(names).to_pylist():
        if chosen is None or row["id"] in chosen:
            id, caption, sha256 = (row[name] for name in READ)
            original = row.get(REVISED) or caption
            style = style_of(id, weights, showing.seed)
            facts = (row.get("source", ""), row.get("licence", ""))
            rows.append(Wanted(id, sha256, original, *facts, style, key_of(sha256, style, original, looks)))
    return rows


def without_prompts(found: Found, prompts: Sequence[str], config: ContaminationConfig) -> Found:
    """What was written, refused where it gives a prompt of the evaluation away."""
    keys = [key for key, one in found.items() if not one.reason]
    why = contaminated([found[key].caption for key in keys], prompts, config) if prompts else {}
    return found | {keys[at]: replace(found[keys[at]], reason="contaminated", detail=said) for at, said in why.items()}


def _output(rows: Sequence[Wanted], found: Found, reused: int) -> ShardOutput:
    made, rejects = [], []
    for row in rows:
        one, id = found[row.key], content_id("recaption", row.image_id)
        if one.reason:
            refused = {name: value for name, value in vars(row).items() if name != "key"}
            rejects.append(Reject(id, one.reason, one.detail, {**refused, "answer": one.answer}))
            continue
        facts = {name: getattr(row, name) for name in ("source", "licence", "image_id", "style", "original")}
        said = {"caption": one.caption, "tokens": one.tokens, "answer": one.answer}
        made.append({"id": id, "rank": 0, "novelty": 0.0, **facts, **said})
    table = pa.Table.from_pylist(made, schema=RECAPTIONED)
    return ShardOutput(table=table, schema=RECAPTIONED, rejects=rejects, rows_in=len(rows), rows_reused=reused)
