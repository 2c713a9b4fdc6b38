"""CAPTIONS -> PROMPTS: no duplicates, nothing of the evaluation, and the most diverse of the rest.

A decision over all captions. A million captions of 75 characters took 0.56 GB of resident memory before near-duplicates
and k-center, 1.25 GB with near-duplicates (Xeon, 28 Nov 2026); k-center holds 4 `embedding_dim` bytes a caption more.
"""

import json
import logging

import numpy as np
import pyarrow as pa
from jaxtyping import UInt64
from pydantic import Field

from lightgen.config import Config
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.prompt_lists import PromptList, read_as_planned, read_prompt_lists
from lightgen.decisions.contamination import ContaminationConfig, contaminated
from lightgen.decisions.equal_words import word_digests
from lightgen.decisions.near_duplicates import NearDuplicateConfig
from lightgen.decisions.selection import REASONS, Selection, choose_captions
from lightgen.engines.build import build
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.prompts import SCHEMA
from schemas.ref import ArtifactRef

log = logging.getLogger(__name__)
STAGE = Stage("select", "prompts", revision=2)
NARROW = ["id", "caption_id", "caption"]


class SelectConfig(Config):
    """What is thrown away before a teacher is paid, and how many prompts remain."""

    near_duplicates: NearDuplicateConfig | None = Field(default=NearDuplicateConfig(), description="null: exact only")
    evaluation: list[CorpusConfig] = Field(default_factory=list, description="prompts that must not be trained on")
    contamination: ContaminationConfig = Field(
        default=ContaminationConfig(), description="when a caption is too like one of the evaluation"
    )
    count: int | None = Field(default=None, ge=1, description="how many prompts, the most diverse; null: all")
    embedding_dim: int = Field(
        default=512, ge=16, le=4096, description="of the hashed n-grams that diversity is measured by"
    )


def select(captions: ArtifactRef, config: SelectConfig, context: Context) -> ArtifactRef:
    """Prompts; shard i holds the survivors of caption shard i. `summary.json` holds the counts and Vendi scores.

    Raises InputCorrupt, and InputChanged where an evaluation list changes meanwhile.
    """
    given = context.store.open(captions)
    inputs = {"evaluation": [one.facts for one in read_prompt_lists(config.evaluation)]}
    plan = STAGE.plan(config, context.seed, [captions], given.n_shards, inputs)
    needs = Needs(sort="decision", unit="captions", total=given.rows)
    return build(Work.of(plan, config, [captions], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Decides about all captions; see `lightgen.work`."""
    config, given = SelectConfig.model_validate(work.config), worker.store.open(work.parents[0])
    lists = read_as_planned(config.evaluation, work.plan.inputs["evaluation"], STAGE.name)
    captions, words, why = gather(given, [prompt for one in lists for prompt in one.prompts], config.contamination)
    selection = choose_captions(captions, words, why, config.near_duplicates, config.count, config.embedding_dim)
    extras = {"summary.json": _summary(selection, config, lists)}
    starts = np.cumsum([0, *(receipt.rows_out for receipt in given.manifest.shards)])

    def make_shard(shard: int) -> ShardOutput:
        kept, rejects = _parted(given.table(shard), selection, int(starts[shard]))
        rows_in = kept.num_rows + len(rejects)
        return ShardOutput(kept, rows_in, SCHEMA, rejects, extras={} if shard else extras)

    return make_shard


def gather(
    given: Version, prompts: list[str], config: ContaminationConfig
) -> tuple[pa.Table, UInt64[np.ndarray, "n 2"], dict[int, str]]:
    """Ids and texts of all captions, digests of their words, and which are contaminated by `prompts`, and how.

    Shard by shard; memory: the text and 100 bytes a caption, and a text for each contaminated one.
    """
    parts: dict[str, list[pa.Array]] = {name: [pa.array([], pa.large_string())] for name in NARROW}
    words, why, start = [np.zeros((0, 2), np.uint64)], dict[int, str](), 0
    for shard in range(given.n_shards):
        table = given.table(shard, columns=NARROW)
        texts = table["caption"].to_pylist()
        words.append(word_digests(texts))
        why |= {start + row: said for row, said in contaminated(texts, prompts, config).items()}
        for name, arrays in parts.items():
            arrays += table[name].cast(pa.large_string()).chunks
        start += table.num_rows
    # One column after the other, so that no more than one is held twice.
    return pa.table({name: pa.concat_arrays(parts.pop(name)) for name in NARROW}), np.concatenate(words), why


def _parted(rows: pa.Table, selection: Selection, start: int) -> tuple[pa.Table, list[Reject]]:
    """The prompts of a shard of captions, and its rejects."""
    part = slice(start, start + rows.num_rows)
    chosen = selection.reason[part] == 0
    lost = np.flatnonzero(~chosen)
    rejects = [
        Reject(row["id"], REASONS[selection.reason[start + at]], selection.detail(start + at), row)
        for at, row in zip(lost.tolist(), rows.take(pa.array(lost)).to_pylist(), strict=True)
    ]
    kept = rows.filter(pa.array(chosen))
    columns = {name: kept[name] for name in ("caption", "tokens", "source", "licence")}
    columns |= {"id": kept["caption_id"], "rank": selection.rank[part][chosen]}
    columns |= {"novelty": selection.novelty[part][chosen], "image_id": pa.nulls(kept.num_rows, pa.string())}
    return pa.table({name: columns[name] for name in SCHEMA.names}).cast(SCHEMA), rejects


def _summary(selection: Selection, config: SelectConfig, lists: list[PromptList]) -> bytes:
    """Counts and scores, and what was used: for people, part of no name."""
    figures = selection.summary
    if config.count is not None and config.count > figures["left"]:
        log.warning(
            "select: count asks for %s prompts, but of %s captions only %s are left after repeats and decontamination; "
            "all of them are taken", f"{config.count:,}", f"{figures['captions']:,}", f"{figures['left']:,}",
        )  # fmt: skip
    used = [{"path": one.given, **one.facts} for one in lists]
    return json.dumps({**figures, "asked": config.count, "evaluation": used}, indent=1).encode()
