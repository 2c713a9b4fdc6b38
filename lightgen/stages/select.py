"""CAPTIONS -> PROMPTS: no duplicates, nothing of the evaluation, and the most diverse of the rest."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa
from pydantic import Field

from lightgen.config import Config
from lightgen.corpora.config import CorpusConfig
from lightgen.decisions.contamination import ContaminationConfig, contaminated, normalised
from lightgen.decisions.embed import hashed_ngrams
from lightgen.decisions.kcenter import k_center
from lightgen.decisions.near_duplicates import NearDuplicateConfig, near_duplicates
from lightgen.decisions.vendi import vendi_score
from lightgen.engines.build import build
from lightgen.seeds import content_id
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.prompts import SCHEMA
from schemas.ref import ArtifactRef

STAGE = Stage("select", "prompts", revision=1)


class SelectConfig(Config):
    """What is thrown away before a teacher is paid, and how many prompts remain."""

    near_duplicates: NearDuplicateConfig | None = Field(default=NearDuplicateConfig(), description="null: exact only")
    evaluation: list[CorpusConfig] = Field(default_factory=list, description="prompts that must not be trained on")
    contamination: ContaminationConfig = ContaminationConfig()
    count: int | None = Field(default=None, ge=1, description="how many prompts, the most diverse; null: all")
    embedding_dim: int = Field(
        default=512, ge=16, le=4096, description="of the hashed n-grams that diversity is measured by"
    )


@dataclass(frozen=True)
class Verdicts:
    """What became of every caption, in order: a reason or none, a detail, and the order of choice of the chosen."""

    reasons: list[str]
    details: list[str]
    rank: dict[int, int]
    novelty: dict[int, float]
    summary: dict[str, float | int] = field(default_factory=dict)


def select(captions: ArtifactRef, config: SelectConfig, context: Context) -> ArtifactRef:
    """Prompts; shard i holds the survivors of caption shard i, `summary.json` the counts and Vendi scores."""
    given = context.store.open(captions)
    inputs = {"evaluation_prompts": content_id("prompts", *_evaluation_prompts(config))}
    settings = config.model_copy(update={"evaluation": []})
    plan = STAGE.plan(settings.model_dump(mode="json"), context.seed, [captions], given.n_shards, inputs)
    needs = Needs(sort="decision", unit="captions", total=given.rows)
    return build(Work.of(plan, config, [captions], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    config, given = SelectConfig.model_validate(work.config), worker.store.open(work.parents[0])
    return _Decision(given.n_shards, given.table, config, _evaluation_prompts(config)).shard


def judge(captions: list[str], tokens: list[int], ids: list[str], config: SelectConfig, prompts: list[str]) -> Verdicts:
    """Verdicts on all captions at once; what wins does not depend on their order (ties go to the smallest id)."""
    n = len(captions)
    reasons, details = [""] * n, [""] * n

    def drop(index: int, reason: str, detail: str) -> None:
        if not reasons[index]:
            reasons[index], details[index] = reason, detail

    for i, keeper in _equal(captions, ids):
        drop(i, "duplicate_exact", f"same words as {ids[keeper]}: {captions[keeper]}")
    for i, why in contaminated(captions, prompts, config.contamination).items():
        drop(i, "contaminated", why)
    if config.near_duplicates is not None:
        alive = [i for i in range(n) if not reasons[i]]
        for i, keeper in _near(alive, captions, ids, config.near_duplicates):
            drop(i, "duplicate_near", f"near-duplicate of {ids[keeper]}: {captions[keeper]}")
    alive = sorted((i for i in range(n) if not reasons[i]), key=lambda i: ids[i])
    vectors = hashed_ngrams([captions[i] for i in alive], config.embedding_dim)
    order, novelty = k_center(vectors, len(alive) if config.count is None else config.count)
    rank = {alive[chosen]: place for place, chosen in enumerate(order)}
    for i in alive:
        if i not in rank:
            drop(i, "not_chosen", f"not among the {len(order)} most diverse")
    whole = vendi_score(hashed_ngrams(captions, config.embedding_dim)) if n else 0.0
    summary: dict[str, float | int] = {
        "captions": n,
        "chosen": len(order),
        "vendi_captions": whole,
        "vendi_distinct": vendi_score(vectors),
        "vendi_chosen": vendi_score(vectors[order]),
        # Ids are hashes, so the first ones are as good as drawn by lot: what choosing is worth.
        "vendi_random": vendi_score(vectors[: len(order)]),
        **{reason: reasons.count(reason) for reason in sorted({*reasons} - {""})},
    }
    return Verdicts(reasons, details, rank, {alive[c]: float(d) for c, d in zip(order, novelty, strict=True)}, summary)


class _Decision:
    """The verdicts on all shards, made once and only if a shard is missing."""

    def __init__(
        self, n_shards: int, table: Callable[[int], pa.Table], config: SelectConfig, prompts: list[str]
    ) -> None:
        self.n_shards, self.table, self.config, self.prompts = n_shards, table, config, prompts

    @cached_property
    def tables(self) -> list[pa.Table]:
        return [self.table(shard) for shard in range(self.n_shards)]

    @cached_property
    def verdicts(self) -> Verdicts:
        rows = pa.concat_tables(self.tables)
        captions, tokens, ids = (rows.column(name).to_pylist() for name in ("caption", "tokens", "id"))
        return judge(captions, tokens, ids, self.config, self.prompts)

    def shard(self, shard: int) -> ShardOutput:
        """Survivors and rejects of one shard."""
        first = sum(table.num_rows for table in self.tables[:shard])
        table, verdicts = self.tables[shard], self.verdicts
        rows = table.to_pylist()
        kept = [i for i in range(len(rows)) if first + i in verdicts.rank]
        rejects = [
            Reject(row["id"], verdicts.reasons[first + i], verdicts.details[first + i][:500], row)
            for i, row in enumerate(rows)
            if first + i not in verdicts.rank
        ]
        out = table.take(pa.array(kept, pa.int64()))
        out = out.append_column(SCHEMA.field("rank"), pa.array([verdicts.rank[first + i] for i in kept], pa.int32()))
        out = out.append_column(
            SCHEMA.field("novelty"), pa.array([verdicts.novelty[first + i] for i in kept], pa.float32())
        )
        files = {"summary.json": json.dumps(verdicts.summary, indent=1).encode()} if shard == 0 else {}
        return ShardOutput(table=out.cast(SCHEMA), schema=SCHEMA, rejects=rejects, rows_in=len(rows), extras=files)


def _equal(captions: list[str], ids: list[str]) -> list[tuple[int, int]]:
    """(repeat, keeper) for captions of the same words; the smallest id is kept."""
    keeper: dict[str, int] = {}
    words = [normalised(caption) for caption in captions]
    for i in sorted(range(len(ids)), key=lambda i: (ids[i], i)):
        keeper.setdefault(words[i], i)
    return [(i, keeper[plain]) for i, plain in enumerate(words) if keeper[plain] != i]


def _near(alive: list[int], captions: list[str], ids: list[str], config: NearDuplicateConfig) -> list[tuple[int, int]]:
    """(duplicate, the kept caption that it is near to)."""
    refused = near_duplicates([ids[i] for i in alive], [captions[i] for i in alive], config).refused
    return [(i, alive[keeper]) for i, keeper in zip(alive, refused.tolist(), strict=True) if keeper >= 0]


def _evaluation_prompts(config: SelectConfig) -> list[str]:
    rows = itertools.chain.from_iterable(corpus.read() for corpus in config.evaluation)
    texts = (row.text.decode("utf-8", "replace") if isinstance(row.text, bytes) else row.text for row in rows)
    return sorted({text for text in texts if text})
