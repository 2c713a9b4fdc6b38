"""Link tables -> LINKS: addresses with their captions; what is refused by a rule or by its text is kept with a reason.

A map over ranges of the tables, as `source` is over those of corpora. An address is judged by its text alone; what it
resolves to is asked when it is fetched. Memory: the rows of one shard, and 100 bytes a shard for the inventory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, TypeAdapter

from lightgen.config import QUIET, RUN, Config
from lightgen.corpora.cleaning import REASONS, Cleaned, Limits, clean
from lightgen.corpora.inventory import take_inventory
from lightgen.corpora.laion import LaionLinks
from lightgen.corpora.link_rehearsal import rehearsed
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.sharding import count_shards, ranges_of
from lightgen.corpora.tokenizer import counter
from lightgen.decisions.rules import KEPT, Rule, Yield, apply_rules
from lightgen.engines.build import build
from lightgen.errors import InputCorrupt
from lightgen.fetch import loopback
from lightgen.fetch.safe import Refused, Target, parse
from lightgen.problems import Problem
from lightgen.seeds import content_id
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.links import NUMBERS, SCHEMA, SCORES
from schemas.ref import ArtifactRef

STAGE = Stage("links", "links", revision=3)
INVENTORIES = TypeAdapter(list[list[Inventory]])
NO_LIMIT = 1 << 30
DETAIL = 500
LARGEST = float(np.finfo(np.float32).max)
URL_REASONS = ("url_scheme", "url_malformed", "url_credentials", "url_private")


class LinksConfig(Config):
    """Which tables, and what a link must be. The first rule that it breaks is its reason; a missing value breaks it."""

    corpora: list[LaionLinks] = Field(min_length=1, description="read one after the other")
    rules: tuple[Rule, ...] = Field(default=(), description=f"over {', '.join(NUMBERS)}")
    among: dict[Literal["language", "nsfw", "licence"], tuple[str, ...]] = Field(
        default={},
        description="words that pass, in any case: `language: [en, nolang]`, `nsfw: [UNLIKELY]`; no word does not",
        json_schema_extra=QUIET,
    )
    min_characters: int = Field(default=3, ge=1, description="of the words beside a link; fewer are refused")
    max_characters: int = Field(default=2000, ge=1, description="more are refused")
    shard_rows: int = Field(default=2000, ge=1, description="links a shard")
    allow_private: tuple[str, ...] = Field(
        default=(),
        description="host:port that may be asked though it is not public, for tests",
        json_schema_extra=QUIET,
    )
    max_reject_fraction: float = Field(
        default=0.99,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: rules on columns that there are not, or that a table lacks."""
        for number, rule in enumerate(self.rules):
            if rule.column not in NUMBERS:
                what = f"links have no numbers called {rule.column!r}"
                yield Problem("recipe", f"rules.{number}.column", what, f"there are {', '.join(NUMBERS)}")
                continue
            for corpus in self.corpora:
                if lacking := _lacking(corpus, rule.column):
                    what = f"{lacking} has no {rule.column} that can be read, so the rule would refuse all its links"
                    yield Problem("here", f"rules.{number}.column", what, "leave the rule or the table out")
        for name in self.among:
            for corpus in self.corpora:
                if name != "licence" and (lacking := _lacking(corpus, name)):
                    what = f"{lacking} has no {name} that can be read, so no link of it would be among those that pass"
                    yield Problem("here", f"among.{name}", what, "leave it or the table out")

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: links to a server of this process, of which most keep the rules and some break one."""
        words = {name: passing[0] for name, passing in self.among.items() if passing}
        corpora = [rehearsed(one, self.rules, words, folder, self.own_folder(folder)) for one in self.corpora]
        return self.model_copy(update={"corpora": corpora, "allow_private": (loopback.shared().address,)})


def links(config: LinksConfig, context: Context) -> ArtifactRef:
    """Links of all tables; a shard is a range of one file, so a file or a folder that grows leaves the shards before.

    The same content under another path is the same version. Raises InputCorrupt, InputChanged, ConfigError.
    """
    found = [[take_inventory(file, config.shard_rows) for file in corpus.files()] for corpus in config.corpora]
    every = [one for files in found for one in files]
    n_shards = count_shards(STAGE.name, every)
    inputs = {"corpora": [[one.model_dump(mode="json") for one in files] for files in found]}
    plan = STAGE.plan(config, context.seed, [], n_shards, inputs)
    needs = Needs(unit="rows", total=sum(one.rows for one in every))
    return build(Work.of(plan, config, [], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Finds the range of every shard; see `lightgen.work`."""
    config = LinksConfig.model_validate(work.config)
    found, scratch = INVENTORIES.validate_python(work.plan.inputs["corpora"]), worker.store.scratch(work.plan)
    files = [file for corpus in config.corpora for file in corpus.files()]
    every = [one for inventories in found for one in inventories]
    shards = ranges_of(STAGE.name, files, every)

    def make_shard(shard: int) -> ShardOutput:
        if not shards:
            return _shard([], [])
        file, ordinal, inventory, place = shards[shard]
        rows = file.read_range(inventory, place, scratch)
        prefix = f"{content_id('corpus', file.key)[:14]}{ordinal:06x}"
        ids = [f"{prefix}{row:012x}" for row in range(place.first, place.first + rows.num_rows)]
        return judged(rows, ids, file, config)

    return make_shard


def judged(rows: pa.Table, ids: Sequence[str], file: LaionLinks, config: LinksConfig) -> ShardOutput:
    """Rows as links and rejects: the address first, then the caption, then the rules."""
    limits = Limits(min_characters=config.min_characters, max_characters=config.max_characters, max_tokens=NO_LIMIT)
    count, numbers = counter("words"), _numbers(rows)
    verdicts = apply_rules(numbers, config.rules)
    facts = zip(ids, rows.to_pylist(), numbers.to_pylist(), verdicts.rule, verdicts.detail.to_pylist(), strict=True)
    kept: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for id, row, sizes, rule, detail in facts:
        target, caption = _target(row["url"], config), clean(row["caption"], limits, count)
        known = {name: _shown(row[name]) for name in ("url", "caption")} | sizes | {"source": file.source}
        licence = _licence(row["licence"], file.licence)
        if isinstance(target, Refused):
            rejects.append(Reject(id, target.reason, target.detail, known))
        elif not isinstance(caption, Cleaned):
            rejects.append(Reject(id, *caption, known))
        elif rule != KEPT:
            rejects.append(Reject(id, config.rules[rule].reason, detail, known))
        elif (other := _other({**row, "licence": licence}, config)) is not None:
            rejects.append(Reject(id, *other, known))
        else:
            said = {name: _shown(row[name]) for name in ("language", "nsfw", "uid")}
            kept.append({
                "id": id, "caption_id": content_id("caption", caption.caption), "url": known["url"],
                "caption": caption.caption, "host": target.host, **sizes, **said, "sha256": _digest(row["sha256"]),
                "source": file.source, "licence": licence,
            })  # fmt: skip
    return _shard(kept, rejects)


def _other(row: dict[str, Any], config: LinksConfig) -> tuple[str, str] | None:
    """Reason and detail where a word of the row is not among those that pass."""
    for name, words in config.among.items():
        said = row[name] if isinstance(row[name], str) else _shown(row[name]) or ""
        if said.lower() not in {word.lower() for word in words}:
            return f"other_{name}", f"{name} {said[:80]!r} is not {' or '.join(words)}"
    return None


def yields(version: Version) -> list[Yield]:
    """Links before and after each step: addresses, captions, then the rules in their order."""
    reasons, before = version.reject_reasons, version.rows + sum(version.reject_reasons.values())
    rules: Any = version.plan.config.get("rules", [])
    words: Any = version.plan.config.get("among", {})
    ruled = [*(rule["reason"] for rule in rules), *(f"other_{name}" for name in words)]
    steps = []
    for reason in dict.fromkeys((*URL_REASONS, *REASONS, *ruled)):
        after = before - reasons.get(reason, 0)
        if reason in ruled or after < before:
            steps.append(Yield(reason, before, after))
        before = after
    return steps


def _lacking(corpus: LaionLinks, column: str) -> str:
    """The first file of a table that lacks a column; that it cannot be read is said elsewhere."""
    try:
        return next((file.path for file in corpus.files() if column not in file.known()), "")
    except InputCorrupt:
        return ""


def _shard(kept: list[dict[str, Any]], rejects: list[Reject]) -> ShardOutput:
    table = pa.Table.from_pylist(kept, schema=SCHEMA)
    return ShardOutput(table=table, schema=SCHEMA, rejects=rejects, rows_in=len(kept) + len(rejects))


def _numbers(rows: pa.Table) -> pa.Table:
    """Sizes and scores as LINKS types them; null what is no size, and a score beyond the type."""
    columns = {}
    for name in NUMBERS:
        values = rows[name].to_pylist()
        if name in SCORES:
            values = [one if one is not None and abs(one) <= LARGEST else None for one in values]
        else:
            values = [int(one) if one is not None and 0 < one < 1 << 31 else None for one in values]
        columns[name] = pa.array(values, SCHEMA.field(name).type)
    return pa.table(columns)


def _target(url: bytes | None, config: LinksConfig) -> Target | Refused:
    try:
        text = (url or b"").decode()
    except UnicodeDecodeError as error:
        return Refused("url_malformed", f"not UTF-8: {error.reason} at byte {error.start}")
    return parse(text, config.allow_private)


def _shown(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace").strip(" ")[: DETAIL * 16]


def _digest(value: bytes | None) -> str | None:
    text = (value or b"").decode("ascii", "replace").lower()
    return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else None


def _licence(value: bytes | None, otherwise: str) -> str:
    said = _shown(value)
    return otherwise if said in (None, "", "?") else said or otherwise
