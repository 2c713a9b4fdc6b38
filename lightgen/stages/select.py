"""CAPTIONS -> PROMPTS: no duplicates, nothing of the evaluation, and a diverse choice of the rest.

A decision over all captions, out of core. A map sketches each shard, whatever the others hold; what the sketch says of
n-grams, terms and concepts lies in files that have no name. Memory: 300 bytes a caption between one and ten million
(docs/data.md). Time grows as the number of captions, but for
`choice: {kind: k_center}`.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt64
from pydantic import Field

from lightgen.config import QUIET, RUN, Config
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.prompt_lists import PromptList, read_as_planned, read_prompt_lists
from lightgen.decisions.choice import ChoiceConfig, Parts, too_many
from lightgen.decisions.contamination import ContaminationConfig
from lightgen.decisions.near_duplicates import NearDuplicateConfig, NearDuplicates
from lightgen.decisions.recall import Recall
from lightgen.decisions.selection import (
    CONTAMINATED,
    EXACT,
    NEAR,
    REASONS,
    SEMANTIC,
    Like,
    Selection,
    select_captions,
)  # fmt: skip
from lightgen.decisions.semantic import SemanticConfig, refuse_like
from lightgen.decisions.sketch import Sketch, ids_of, piled, sketcher
from lightgen.engines.build import build
from lightgen.errors import ConfigError
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput, reject_rows
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.prompts import SCHEMA
from schemas.ref import ArtifactRef

log = logging.getLogger(__name__)
STAGE = Stage("select", "prompts", revision=3)
NARROW = ["id", "caption_id", "caption"]
LAST = "f" * 32  # a record after all others
SAID = pa.scalar(": ", pa.large_string())
TOLD = {EXACT: "same words as", NEAR: "near-duplicate of", SEMANTIC: "means the same as"}


class SelectConfig(Config):
    """What is thrown away before a teacher is paid, and how many prompts remain."""

    near_duplicates: NearDuplicateConfig | None = Field(default=NearDuplicateConfig(), description="null: exact only")
    semantic: SemanticConfig | None = Field(
        default=None,
        description="captions that mean the same go too: by the cosine of a model's vectors",
        json_schema_extra=QUIET,
    )
    evaluation: list[CorpusConfig] = Field(default_factory=list, description="prompts that must not be trained on")
    contamination: ContaminationConfig = Field(
        default=ContaminationConfig(), description="when a caption is too like one of the evaluation"
    )
    keep: list[str] = Field(
        default_factory=list,
        description="prompts of earlier versions, such as prompts@tag:paid: they stay, and what is near to one goes",
        json_schema_extra=RUN,  # in the name are the versions themselves, as parents
    )
    count: int | None = Field(default=None, ge=1, description="how many prompts; null: all")
    choice: ChoiceConfig = Field(
        default=Parts(), description="which ones, where there are more", json_schema_extra=QUIET
    )
    embedding_dim: int = Field(
        default=512, ge=16, le=4096, description="of the hashed n-grams that Vendi scores are measured by"
    )


def select(captions: ArtifactRef, config: SelectConfig, context: Context) -> ArtifactRef:
    """Prompts; shard i holds the survivors of caption shard i. `summary.json` holds counts and diversity.

    Raises ConfigError for more captions than the rule of choice is made for, InputCorrupt, and InputChanged where an
    evaluation list changes meanwhile.
    """
    given = context.store.open(captions)
    for problem in too_many(config.choice, given.rows):
        raise ConfigError(f"select.{problem.where}: {problem.what}; {problem.fix}")
    kept = [context.store.open(one).ref for one in config.keep]
    inputs = {"evaluation": [one.facts for one in read_prompt_lists(config.evaluation)]}
    plan = STAGE.plan(config, context.seed, [captions, *kept], given.n_shards, inputs)
    needs = Needs(sort="decision", unit="captions", total=given.rows)
    return build(Work.of(plan, config, [captions, *kept], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Decides about all captions; see `lightgen.work`."""
    config, (given, *kept) = SelectConfig.model_validate(work.config), map(worker.store.open, work.parents)
    lists = read_as_planned(config.evaluation, work.plan.inputs["evaluation"], STAGE.name)
    prompts = [prompt for one in lists for prompt in one.prompts]
    sketch = sketcher(config.near_duplicates, prompts, config.contamination)
    scratch = worker.store.scratch(work.plan)
    sketches = piled(map(sketch, narrow(given, kept)), scratch)
    like = _like(config.semantic, given, kept, worker.device, scratch) if config.semantic else None
    decided = Decided(given, kept, sketches, _decide(sketches, given.rows, kept, config, like))
    extras = {"summary.json": _summary(decided.selection, config, lists)}

    def make_shard(shard: int) -> ShardOutput:
        rows, rejects = decided.parted(shard)
        rows_in = rows.num_rows + len(rejects)
        return ShardOutput(rows, rows_in, SCHEMA, rejects, extras={} if shard else extras)

    return make_shard


def narrow(given: Version, kept: Sequence[Version]) -> Iterator[pa.Table]:
    """What is sketched: the captions of each shard, then the prompts of kept versions, as records after all others."""
    yield from (given.table(shard, columns=NARROW) for shard in range(given.n_shards))
    for version in kept:
        for shard in range(version.n_shards):
            table = version.table(shard, columns=["id", "caption"])
            yield pa.table([pa.array([LAST] * table.num_rows, pa.string()), table["id"], table["caption"]], NARROW)


def _decide(sketch: Sketch, rows: int, kept: Sequence[Version], config: SelectConfig, like: Like | None) -> Selection:
    """Captions that are prompts of a kept version are kept ones, as those prompts are."""
    held = np.arange(len(sketch.ids)) >= rows
    if kept:
        held[:rows] = np.isin(_packed(sketch.caption_ids[:rows]), _packed(sketch.caption_ids[rows:]))
    return select_captions(
        sketch, held, rows, config.near_duplicates, config.choice, config.count, config.embedding_dim, like
    )


def _like(config: SemanticConfig, given: Version, kept: Sequence[Version], device: str, scratch: Path) -> Like:
    """Reads captions again, shard by shard, and compares their vectors, which lie in a file."""

    def like(rows: Int64[np.ndarray, " k"]) -> tuple[NearDuplicates, Recall]:
        encoder = config.encoder.open(device)
        if not len(rows):
            return refuse_like(np.zeros((0, encoder.dim), np.float32), config)
        with TemporaryFile(dir=scratch) as file:
            vectors = np.memmap(file, np.float32, "w+", shape=(len(rows), encoder.dim))
        place, start = np.argsort(rows), 0
        for table in narrow(given, kept):
            first, last = np.searchsorted(rows, [start, start + table.num_rows], sorter=place)
            mine = place[first:last]
            vectors[mine] = encoder.encode(table["caption"].take(pa.array(rows[mine] - start)).to_pylist())
            start += table.num_rows
        return refuse_like(vectors, config)

    return like


def _packed(keys: UInt64[np.ndarray, "n 2"]) -> np.ndarray:
    return np.ascontiguousarray(keys, ">u8").view("V16").ravel()


class Decided:
    """What becomes of the captions, shard by shard."""

    def __init__(self, given: Version, kept: Sequence[Version], sketch: Sketch, selection: Selection) -> None:
        self.given, self.selection = given, selection
        self._starts = np.cumsum([0, *(receipt.rows_out for receipt in given.manifest.shards)])
        self._why, self._choice = sketch.why, f"not among the {selection.summary['chosen']:,} that were chosen"
        self._twins = np.unique(selection.twin[selection.twin >= 0])
        keys = np.where(self._twins[:, None] < given.rows, sketch.ids[self._twins], sketch.caption_ids[self._twins])
        self._twin_keys, self._twin_texts = keys, _texts(narrow(given, kept), self._twins)

    def parted(self, shard: int) -> tuple[pa.Table, pa.Table]:
        """The prompts of a shard of captions, and its rejects."""
        rows, start, selection = self.given.table(shard), int(self._starts[shard]), self.selection
        part = slice(start, start + rows.num_rows)
        chosen = selection.reason[part] == 0
        lost = np.flatnonzero(~chosen)
        refused = rows.take(pa.array(lost))
        reasons = pa.array(REASONS).take(pa.array(selection.reason[part][lost]))
        rejects = reject_rows(refused["id"].combine_chunks(), reasons, self._details(start + lost), refused)
        kept = rows.filter(pa.array(chosen))
        columns = {name: kept[name] for name in ("caption", "tokens", "source", "licence")}
        columns |= {"id": kept["caption_id"], "rank": selection.rank[part][chosen]}
        columns |= {"novelty": selection.novelty[part][chosen], "image_id": pa.nulls(kept.num_rows, pa.string())}
        return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA), rejects

    def _details(self, rows: Int64[np.ndarray, " k"]) -> pa.LargeStringArray:
        """Why captions are refused, for people."""
        reason, twin = self.selection.reason[rows], self.selection.twin[rows]
        why = [self._why[row] for row in rows[reason == CONTAMINATED].tolist()]
        repeats = np.isin(reason, list(TOLD))
        place = np.searchsorted(self._twins, twin[repeats])
        told = pa.array([TOLD.get(code, "") for code in range(len(REASONS))]).take(pa.array(reason[repeats]))
        named = pc.binary_join_element_wise(told, ids_of(self._twin_keys[place]), " ").cast(pa.large_string())
        like = pc.binary_join_element_wise(named, self._twin_texts.take(pa.array(place)).combine_chunks(), SAID)
        details = pa.repeat(pa.scalar(self._choice, pa.large_string()), len(rows))
        details = pc.replace_with_mask(details, pa.array(reason == CONTAMINATED), pa.array(why, pa.large_string()))
        return pc.replace_with_mask(details, pa.array(repeats), like)


def _texts(tables: Iterator[pa.Table], rows: Int64[np.ndarray, " k"]) -> pa.ChunkedArray:
    """The captions of some rows, ascending; memory: their texts."""
    found, start = [pa.array([], pa.large_string())], 0
    for table in tables:
        first, last = np.searchsorted(rows, [start, start + table.num_rows])
        taken = table["caption"].take(pa.array(rows[first:last] - start))
        found += taken.cast(pa.large_string()).chunks
        start += table.num_rows
    return pa.chunked_array([pa.concat_arrays(found)])


def _summary(selection: Selection, config: SelectConfig, lists: list[PromptList]) -> bytes:
    """Counts and scores, and what was used: for people, part of no name."""
    figures = selection.summary
    if not figures["left"]:
        why = ", ".join(f"{figures[reason]:,} {reason}" for reason in REASONS if figures.get(reason))
        log.warning(
            "select: of %s captions none is left (%s), so nothing can be drawn or trained on; see `lightgen rejects`, "
            "and give other captions or change the rules", f"{figures['captions']:,}", why or "none came in",
        )  # fmt: skip
    elif config.count is not None and config.count > figures["left"]:
        log.warning(
            "select: count asks for %s prompts, but of %s captions only %s are left after repeats and decontamination; "
            "all of them are taken", f"{config.count:,}", f"{figures['captions']:,}", f"{figures['left']:,}",
        )  # fmt: skip
    for name in ("near_recall", "semantic_recall"):
        if name in figures:
            log.info("select: %s: %s", name.replace("_", " "), told_recall(figures[name]))
    used = [{"path": one.given, **one.facts} for one in lists]
    facts = {"asked": config.count, "choice": config.choice.kind, "evaluation": used}
    return json.dumps({**figures, **facts}, indent=1).encode()


def told_recall(found: Mapping[str, int]) -> str:
    """How many near-duplicates are found, for people."""
    pairs, share = found["pairs"], found["found"] / max(found["pairs"], 1)
    return f"of {pairs:,} near pairs of a sample {share:.2%} are found" if pairs else "a sample has no near pairs"
