"""PAIRS + a table of votes -> SCORES of scorer `human`: which side of a pair people prefer.

A decision: no pixel is opened. Memory: the ids of all pairs, and the votes.
"""

import csv
import hashlib
import io
import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.engines.build import build
from lightgen.errors import ConfigError, InputChanged, InputCorrupt
from lightgen.problems import Problem
from lightgen.seeds import content_id
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef
from schemas.scores import schema

STAGE = Stage("verdicts", "scores", revision=1)
HEADER = ("pair", "side", "rater")
SIDES = {"winner": 1.0, "loser": 0.0, "tie": 0.5}  # what the winner gets of a vote
PREFIX = re.compile(r"[0-9a-f]{8,}\Z")
LONGEST_RATER = 100
LONGEST_VALUE = 1 << 16  # characters; csv's own limit is one for the whole process, which others raise
ANSWERS = pa.schema(
    [
        pa.field("pair_id", pa.string()),
        pa.field("image_id", pa.string()),
        pa.field("side", pa.string(), metadata={"values": "winner, loser"}),
        pa.field("preferred", pa.float32(), metadata={"is": "share of votes for this side; a tie is half a vote"}),
        pa.field("votes", pa.int32()),
        pa.field("raters", pa.string(), metadata={"format": "JSON: by rater 1 for this side, 0 against it, 0.5 a tie"}),
    ]
)
SCHEMA = schema(ANSWERS)
Row = dict[str, Any]


class VerdictsConfig(Config):
    """Where the votes are: CSV or TSV with a header that names pair, side and rater.

    `pair` is the id of a pair or its first eight digits and more; `side` is winner, loser or tie. A rater has one vote
    a pair, the first. The file is named by what it holds.
    """

    scorer: Literal["human"] = Field(default="human", description="people; there is no other")
    path: str = Field(min_length=1, description="CSV or TSV of pair, side and rater", json_schema_extra=RUN)
    max_reject_fraction: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a file that cannot be read, or has other columns."""
        try:
            read_votes(self.path)
        except InputCorrupt as error:
            yield Problem("here", "path", str(error), f"give a CSV with the columns {', '.join(HEADER)}")

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: nobody has seen pairs that are not made yet, so there are no votes."""
        own = self.own_folder(folder).with_suffix(".csv")
        own.write_text(",".join(HEADER) + "\n", encoding="utf-8")
        return self.model_copy(update={"path": str(own)})


@dataclass(frozen=True)
class Votes:
    """Lines of a file, by their column and with `line`, and the digest of its bytes."""

    sha256: str
    lines: list[Row]


@dataclass
class Dealt:
    """Votes of one shard: by pair and rater what the winner gets."""

    given: dict[str, dict[str, float]] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)


def verdicts(pairs: ArtifactRef, config: VerdictsConfig, context: Context) -> ArtifactRef:
    """Votes on pairs, a row for each side of a pair that has any; shard i holds those of pair shard i.

    A row's id is of pair and side, as one image may be in several pairs. Raises InputCorrupt, ConfigError.
    """
    source, found = context.store.open(pairs), read_votes(config.path)
    if source.ref.kind != "pairs":
        raise ConfigError(f"verdicts: {pairs} is no version of pairs")
    plan = STAGE.plan(config, context.seed, [pairs], source.n_shards, {"sha256": found.sha256})
    needs = Needs(sort="decision", unit="votes", total=len(found.lines))
    return build(Work.of(plan, config, [pairs], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Reads all votes; see `lightgen.work`. Raises InputCorrupt, InputChanged."""
    config, source = VerdictsConfig.model_validate(work.config), worker.store.open(work.parents[0])
    found = read_votes(config.path)
    if found.sha256 != work.plan.inputs["sha256"]:
        raise InputChanged(f"verdicts: {config.path} was changed while its votes were read: start again")
    dealt = deal(found.lines, source)

    def make_shard(shard: int) -> ShardOutput:
        own = dealt[shard]
        worker.progress.advance(len(own.rejects) + sum(map(len, own.given.values())))
        columns = ["id", "prompt_id", "caption", "winner_id", "loser_id"]
        pairs = source.table(shard, columns=columns).to_pylist() if own.given else []
        rows = [one for pair in pairs if pair["id"] in own.given for one in _sides(pair, own.given[pair["id"]])]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        return ShardOutput(table=table, schema=SCHEMA, rejects=own.rejects, rows_in=len(rows) + len(own.rejects))

    return make_shard


def read_votes(path: str) -> Votes:
    """The lines of a table of votes; columns beside those of HEADER are not read. Raises InputCorrupt."""
    try:
        data = Path(path).expanduser().read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputCorrupt(f"verdicts: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",")
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        lacking = [name for name in HEADER if header.count(name) != 1]
        if lacking:
            raise InputCorrupt(f"verdicts: {path} needs one column {', '.join(lacking)}; its header is {first[:200]!r}")
        places = {name: header.index(name) for name in HEADER}
        lines = [
            {"line": reader.line_num, **{name: row[at].strip() if at < len(row) else "" for name, at in places.items()}}
            for row in reader
            if any(value.strip() for value in row)
        ]
    except csv.Error as error:
        raise InputCorrupt(f"verdicts: {path}, line {reader.line_num}: {error}") from None
    for line in lines:
        if any(len(line[name]) > LONGEST_VALUE for name in HEADER):
            raise InputCorrupt(
                f"verdicts: {path}, line {line['line']}: a value of more than {LONGEST_VALUE:,} characters"
            )
    return Votes(hashlib.sha256(data).hexdigest(), lines)


def deal(lines: Sequence[Row], pairs: Version) -> list[Dealt]:
    """Votes by the shard of their pair; what is of no pair is refused in the first."""
    shards = range(pairs.n_shards)
    known = sorted((id, shard) for shard in shards for id in pairs.table(shard, columns=["id"])["id"].to_pylist())
    ids, dealt = [id for id, _ in known], [Dealt() for _ in shards]
    for line in lines:
        places = _named(line["pair"].lower(), ids)
        id, shard = known[places[0]] if len(places) == 1 else ("", 0)
        given, rater = dealt[shard].given, line["rater"]
        fault = _fault(line, len(places)) or ("double_vote" if rater in given.get(id, {}) else "")
        if fault:
            dealt[shard].rejects.append(Reject(content_id("vote", line["line"]), fault, FAULTS[fault], line))
        else:
            given.setdefault(id, {})[rater] = SIDES[line["side"].lower()]
    return dealt


FAULTS = {
    "unknown_pair": "no pair has an id that begins so; at least eight digits are needed",
    "ambiguous_pair": "several pairs have ids that begin so: give more digits",
    "bad_side": f"the side is one of {', '.join(SIDES)}",
    "bad_rater": f"a rater has a name, of at most {LONGEST_RATER} characters",
    "double_vote": "this rater has voted on this pair before, and the first vote counts",
}


def _named(name: str, ids: Sequence[str]) -> range:
    """Places of the ids that begin with a name, or are it."""
    start = bisect_left(ids, name)
    if start < len(ids) and ids[start] == name:
        return range(start, start + 1)
    return range(start, bisect_left(ids, name + "g")) if PREFIX.match(name) else range(0)


def _fault(line: Row, found: int) -> str:
    if found != 1:
        return "ambiguous_pair" if found else "unknown_pair"
    if line["side"].lower() not in SIDES:
        return "bad_side"
    return "" if 0 < len(line["rater"]) <= LONGEST_RATER else "bad_rater"


def _sides(pair: Row, votes: dict[str, float]) -> Iterator[Row]:
    """The rows of both sides of a pair."""
    for index, side in enumerate(("winner", "loser")):
        own = {rater: vote if side == "winner" else 1 - vote for rater, vote in sorted(votes.items())}
        facts = {"pair_id": pair["id"], "image_id": pair[f"{side}_id"], "side": side, "index": index}
        yield {
            "id": content_id("verdict", pair["id"], side), "prompt_id": pair["prompt_id"], "caption": pair["caption"],
            **facts, "image_sha256": "", "preferred": sum(own.values()) / len(own), "votes": len(own),
            "raters": json.dumps(own, ensure_ascii=False), "unscored": "", "unscored_detail": "",
        }  # fmt: skip
