"""Following one row through a store: what it was made from, and what was made of it.

Every table is read once, in the order in which versions were made, and the tables of the row's ancestors once more:
only ids and the columns that name other rows, shard by shard, and whole rows only of what was found. Of kinds whose
rows are wide nothing but ids is read. Memory: one shard's ids, and what is found.
"""

import functools
import operator
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from lightgen.errors import RefNotFound
from lightgen.seeds import content_id
from lightgen.storage.inspect import declared_schema, list_versions
from lightgen.storage.shards import KEY
from lightgen.storage.store import KINDS, Store
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef

PREFIX = re.compile(r"^[0-9a-f]{8,}\Z")
LINKS = ("prompt_id", "image_id", "winner_id", "loser_id", "pair_id")  # columns that name a row of an ancestor
SOURCE = "caption_id"  # of a record: the id of the prompt that may become of it
NARROW = ("captions", "links", "prompts", "images", "scores", "kept", "pairs", "reference", "report")
WITHOUT_ROWS = ("checkpoint", "vae")  # their rows are tensors
MADE = ("checkpoint", "report", "vae")  # named as a whole, where a row went into them
CANDIDATES = 10

Relation = Literal["made from", "the row", "made of it"]


@dataclass(frozen=True)
class Step:
    """One row, or one version as a whole, on the way of an id. `row` holds its values, binary ones left out."""

    relation: Relation
    ref: ArtifactRef
    shard: int | None
    outcome: Literal["kept", "rejected", ""]
    row: dict

    @property
    def kind(self) -> str:
        """Kind of its version."""
        return self.ref.kind


@dataclass(frozen=True)
class _Hit:
    relation: Relation
    version: Version
    shard: int
    outcome: Literal["kept", "rejected"]
    names: dict[str, str]


def trace(store: Store, row: str) -> list[Step]:
    """Ancestors of the row with this id, the row itself, rows made of it, and checkpoints and reports made of those.

    Eight or more hex digits stand for the one id that begins with them. What no id can be is a caption, as it stands in
    the store. Rejected rows are found too. Raises RefNotFound where no id fits, or several do.
    """
    versions = _in_order(store)
    id = row if KEY.match(row) else content_id("caption", row)
    found, names = _look_down(versions, id, is_prefix=bool(PREFIX.match(id)))
    if id in names and len(names) > 1:
        found, names = _look_down(versions, id, is_prefix=False)
    if not names:
        what = "id" if id == row else "caption"
        raise RefNotFound(f"no row of {store.uri} has the {what} {row!r}")
    if len(names) > 1:
        listed = ", ".join(sorted(names)[:CANDIDATES])
        raise RefNotFound(f"{id!r} fits {len(names)} ids of {store.uri}: {listed}; give more digits")
    found += _look_up(versions, [hit for hit in found if hit.relation == "the row"], names)
    used = {hit.version.ref.version for hit in found if hit.relation != "made from" and hit.outcome == "kept"}
    steps = [_step(hit) for hit in found]
    steps += [Step("made of it", version.ref, None, "", {}) for version in _made_of(versions, used)]
    return sorted(steps, key=_place)


def _place(step: Step) -> tuple[int, int, str, int]:
    order = ("made from", "the row", "made of it")
    return order.index(step.relation), KINDS.index(step.kind), step.ref.version, step.shard or 0


def _in_order(store: Store) -> list[Version]:
    """All sealed versions, parents before children."""
    lines = [line for line in list_versions(store) if not line.trouble]
    found = {line.version: store.open(f"{line.kind}@{line.version}") for line in lines}
    graph = {name: [parent.version for parent in version.parents] for name, version in found.items()}
    return [found[name] for name in TopologicalSorter(graph).static_order() if name in found]


def _look_down(versions: list[Version], id: str, is_prefix: bool) -> tuple[list[_Hit], set[str]]:
    """Rows with the id, records of that caption, and all that was made of the rows; and the ids that fit."""
    found, wanted, fitting = list[_Hit](), {id}, set[str]()
    fits = str.startswith if is_prefix else str.__eq__
    for version in versions:
        for shard, outcome, table in _narrow(version):
            where = _among(table, ("id", *LINKS), wanted) | _begins(table, id, is_prefix)
            for names in table.filter(where).to_pylist():
                own, source = names["id"], names.get(SOURCE) or ""
                relation: Relation = "the row" if fits(own, id) else "made from" if fits(source, id) else "made of it"
                found.append(_Hit(relation, version, shard, outcome, names))
                if relation != "made of it":
                    fitting.add(own if relation == "the row" else source)
                if relation != "made from":
                    wanted |= {own, source} - {""}
    return found, fitting


def _begins(table: pa.Table, id: str, is_prefix: bool) -> pc.Expression:
    """Where the row's id, or that of the prompt that may become of it, is `id` or begins with it."""
    first, *others = [pc.field(name) for name in ("id", SOURCE) if name in table.column_names]
    after = f"{id}\x7f"  # behind all that begin with hex digits
    begins = [(one >= id) & (one < after) if is_prefix else one == id for one in (first, *others)]
    return functools.reduce(operator.or_, begins)


def _look_up(versions: list[Version], rows: list[_Hit], names: set[str]) -> list[_Hit]:
    """What `rows` were made from: in the versions that theirs were made from, children before parents."""
    lines = _ancestors(versions, {hit.version.ref.version for hit in rows})
    wanted = {name for hit in rows for name in _linked(hit)} - names
    found = []
    for version in reversed(versions):
        if version.ref.version not in lines or not wanted:
            continue
        for shard, outcome, table in _narrow(version):
            for one in table.filter(_among(table, ("id", SOURCE), wanted)).to_pylist():
                hit = _Hit("made from", version, shard, outcome, one)
                found.append(hit)
                wanted |= _linked(hit) - names
    return found


def _ancestors(versions: list[Version], names: set[str]) -> set[str]:
    found = set()
    for version in reversed(versions):
        if version.ref.version in names | found:
            found |= {parent.version for parent in version.parents}
    return found


def _made_of(versions: list[Version], used: set[str]) -> list[Version]:
    """Checkpoints, VAEs and reports made of `used`, directly or through one another."""
    made, reached = [], set(used)
    for version in versions:
        is_new = version.ref.kind in MADE and version.ref.version not in used
        if is_new and reached & {parent.version for parent in version.parents}:
            made.append(version)
            reached.add(version.ref.version)
    return made


def _linked(hit: _Hit) -> set[str]:
    return {name for column in LINKS if (name := hit.names.get(column))}


def _narrow(version: Version) -> Iterator[tuple[int, Literal["kept", "rejected"], pa.Table]]:
    """Shard by shard, kept and rejected rows: ids and the columns that name other rows."""
    kind = version.ref.kind
    if kind in WITHOUT_ROWS:
        return
    columns = _columns(version) if kind in NARROW else []
    for receipt in version.manifest.shards:
        shard = receipt.shard
        if columns:
            yield shard, "kept", version.table(shard, columns)
        elif receipt.rows_out:
            yield shard, "kept", version.digests(shard).select(["key"]).rename_columns(["id"])
        if receipt.rows_rejected:
            yield shard, "rejected", version.rejects(shard).select(["id"])


def _columns(version: Version) -> list[str]:
    """Those of the wanted columns that it has; none for rows without an id."""
    names = declared_schema(version).names
    return [name for name in ("id", SOURCE, *LINKS) if name in names] if "id" in names else []


def _among(table: pa.Table, columns: Iterable[str], names: set[str]) -> pc.Expression:
    """Where any of the columns that there are holds one of `names`."""
    values = sorted(names)
    return functools.reduce(operator.or_, (pc.field(c).isin(values) for c in columns if c in table.column_names))


def _step(hit: _Hit) -> Step:
    if hit.version.ref.kind not in NARROW and hit.outcome == "kept":
        return Step(hit.relation, hit.version.ref, hit.shard, hit.outcome, hit.names)
    table = hit.version.table(hit.shard) if hit.outcome == "kept" else hit.version.rejects(hit.shard)
    plain = [field.name for field in table.schema if not _is_binary(field.type)]
    row = table.filter(pc.field("id") == hit.names["id"]).select(plain).to_pylist()[0]
    return Step(hit.relation, hit.version.ref, hit.shard, hit.outcome, row)


def _is_binary(kind: pa.DataType) -> bool:
    return pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind)
