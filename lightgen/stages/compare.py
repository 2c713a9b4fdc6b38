"""PAIRS + IMAGES -> SCORES: a vision-language model sees both pictures of a pair at once, in both orders.

A map. Memory: the files of the pairs of one shard that are asked about, and the pixels of one batch.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa
from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.engines.build import build
from lightgen.errors import StoreCorrupt
from lightgen.progress import Progress
from lightgen.scorers.base import answer_table
from lightgen.scorers.vlm import DIGITS, probability
from lightgen.seeds import derive_seed
from lightgen.stages.score import settled
from lightgen.storage.journal import Journal
from lightgen.storage.pixels import BadImage, Pixels, decode_image
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.version import Version
from lightgen.vlm.base import Asked, VisionLanguageModel, YesNo
from lightgen.vlm.config import VlmConfig
from lightgen.vlm.prompts import ASKING, YES_OR_NO, filled
from lightgen.vlm.qwen import TransformersVlmConfig
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef
from schemas.scores import ROW, Unscored, schema

STAGE = Stage("compare", "scores", revision=1)
QUESTION = (
    "Caption: {caption}\nDoes the first picture show what the caption says better than the second picture does? "
    + YES_OR_NO
)
ANSWERS = pa.schema(
    [
        pa.field("winner_first", pa.float32(), metadata={"is": "probability of yes where the winner stands first"}),
        pa.field("winner_second", pa.float32(), metadata={"is": "probability of no where the winner stands second"}),
        pa.field("logits", pa.string(), metadata={"format": "JSON: log-probabilities of yes and of no, by column"}),
    ]
)
SCHEMA = schema(ANSWERS)
COLUMNS = ["id", "prompt_id", "caption", "winner_id", "loser_id"]
Row = dict[str, Any]


class CompareConfig(Config):
    """Which model compares, and how many pairs."""

    model: VlmConfig = Field(default=TransformersVlmConfig(), description="who is asked")
    count: int | None = Field(default=None, ge=1, description="pairs, about: a hash chooses them; null: all")
    max_reject_fraction: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    def content(self) -> dict[str, Any]:
        """Settings, weights and the words that are asked."""
        return {**super().content(), "prompt_sha256": hashlib.sha256(f"{ASKING}\n{QUESTION}".encode()).hexdigest()}


def compare(pairs: ArtifactRef, images: Sequence[ArtifactRef], config: CompareConfig, context: Context) -> ArtifactRef:
    """How likely the winner of each pair is the better one, shown first and shown second; the id is the pair's.

    Raises TryLater, ServiceRefused, SpendLimit.
    """
    source = context.store.open(pairs)
    parents = [pairs, *images]
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    needs = Needs(gpu=config.model.wants_gpu, unit="pairs", total=min(config.count or source.rows, source.rows))
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the model when a pair must be looked at; see `lightgen.work`."""
    config = CompareConfig.model_validate(work.config)
    pairs, *images = (worker.store.open(ref) for ref in work.parents)
    model = cache(lambda: config.model.open(worker))

    def chosen(id: str) -> bool:
        return config.count is None or derive_seed(work.plan.seed, STAGE.name, id) * pairs.rows < config.count << 63

    def make_shard(shard: int) -> ShardOutput:
        rows = [row for row in pairs.table(shard, columns=COLUMNS).to_pylist() if chosen(row["id"])]
        journal = Journal(worker.store.files, work.plan, shard)
        known = {row["id"]: row for table in journal.read() for row in table.to_pylist()}
        worker.progress.advance(sum(row["id"] in known for row in rows))
        left = [row for row in rows if row["id"] not in known]
        for table in _compared(left, _files(images, shard, left), model, config, worker.progress):
            kept, error = settled(table)
            journal.add(kept)
            if error is not None:
                raise error
            known |= {row["id"]: row for row in kept.to_pylist()}
        table = pa.Table.from_pylist([known[row["id"]] for row in rows], schema=SCHEMA)
        return ShardOutput(table=table, schema=SCHEMA, rows_in=len(rows))

    return make_shard


def _files(images: Sequence[Version], shard: int, rows: Sequence[Row]) -> dict[str, bytes]:
    """The files of both sides. Raises StoreCorrupt where one is missing."""
    ids = {row[side] for row in rows for side in ("winner_id", "loser_id")}
    found: dict[str, bytes] = {}
    for version in images if ids else ():
        members = version.members_of(shard, ids)
        found |= {id: next(data for name, data in each.items() if name != "json") for id, each in members.items()}
    if missing := sorted(ids - found.keys()):
        raise StoreCorrupt(f"compare: no parent has image {missing[0]} in shard {shard}")
    return found


def _compared(
    rows: Sequence[Row], files: Mapping[str, bytes], model: Any, config: CompareConfig, progress: Progress
) -> Iterator[pa.Table]:
    """Tables of so many pairs as the model answers together."""
    size = max(1, config.model.together // 2)
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        sides = [(decode_image(files[row["winner_id"]]), decode_image(files[row["loser_id"]])) for row in batch]
        answers = answer_table(ANSWERS, list(_answers(batch, sides, model)))
        facts = [{**{name: row[name] for name in COLUMNS[:3]}, "index": 0, "image_sha256": ""} for row in batch]
        own = pa.Table.from_pylist(facts, schema=pa.schema(ROW))
        yield pa.Table.from_arrays([*own.columns, *answers.columns], schema=SCHEMA)
        progress.advance(len(batch))


def _answers(
    rows: Sequence[Row], sides: Sequence[tuple[Pixels | BadImage, Pixels | BadImage]], model: Any
) -> Iterator[Row | Unscored]:
    """For each pair the answers to both orders, or why one has none; a picture that cannot be read is not shown."""
    asked: list[Asked] = []
    for row, (winner, loser) in zip(rows, sides, strict=True):
        if not isinstance(winner, BadImage) and not isinstance(loser, BadImage):
            text = filled(QUESTION, row["caption"])
            asked += [Asked((winner, loser), text, ASKING), Asked((loser, winner), text, ASKING)]
    opened: VisionLanguageModel | None = model() if asked else None
    found = iter(opened.yes_no(asked) if opened else ())
    for both in sides:
        bad = next((one for one in both if isinstance(one, BadImage)), None)
        yield Unscored(bad.reason, bad.detail) if bad else _answer(next(found), next(found))


def _answer(first: YesNo | Unscored, second: YesNo | Unscored) -> Row | Unscored:
    if isinstance(first, Unscored):
        return first
    if isinstance(second, Unscored):
        return second
    told = {"winner_first": first, "winner_second": second}
    logits = {name: [round(one.yes, DIGITS), round(one.no, DIGITS)] for name, one in told.items()}
    return {
        "winner_first": probability(first), "winner_second": 1 - probability(second), "logits": json.dumps(logits),
    }  # fmt: skip
