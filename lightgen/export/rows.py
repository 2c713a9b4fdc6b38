"""The rows of a version as outsiders get them: pictures beside what is known of them, each with source and licence.

KEPT becomes the images that it names, with their scores; PAIRS get both pictures. Refused rows lie elsewhere in the
store and never pass here. Memory: the columns of one shard, and the pictures of one batch.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.export.vectors import plain, restored
from lightgen.storage.inspect import declared_schema
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas import scores as scores_schema
from schemas.ref import ArtifactRef

SIDES = {"images": {"image": "id"}, "kept": {"image": "id"}, "pairs": {"winner": "winner_id", "loser": "loser_id"}}
TABLES = (
    "captions",
    "prompts",
    "links",
    "scores",
    "texts",
    "features",
    "pair_features",
    "reference",
    "report",
    "audit",
)
WHERE = ("source", "licence")
MISSING = pa.field("licence", pa.string(), metadata={"is": "of the prompt or of the picture; null: not known"})
FACTS = (pa.field("source", pa.string(), metadata={"is": "corpus of the prompt or of the picture"}), MISSING)
BATCH_ROWS, BATCH_BYTES = 100_000, 32 << 20


@dataclass(frozen=True)
class Picture:
    """The file of an image, as it was sealed."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Batch:
    """Some rows in their order, and by column the pictures that stand beside them."""

    table: pa.Table
    pictures: dict[str, list[Picture]]


class Rows:
    """What leaves of one version, shard by shard. Raises ConfigError for a kind that is no dataset."""

    def __init__(self, version: Version, store: Store) -> None:
        kind = version.ref.kind
        if kind not in SIDES and kind not in TABLES:
            known = ", ".join(sorted([*SIDES, *TABLES, "checkpoint"]))
            raise ConfigError(f"{version.ref} cannot be exported: there is no form for {kind}. Give one of {known}")
        self.version, self.store = version, store
        self.sides = SIDES.get(kind, {})
        self._opened: dict[str, Version] = {}
        self.images = [version] if kind == "images" else [store.open(p) for p in self._parents("images")]
        self.scores = self._scores()
        self.schema = self._schema()

    @property
    def pictures(self) -> list[str]:
        """Names of the columns that hold pictures."""
        return list(self.sides)

    def size(self, shard: int) -> int:
        """About the bytes of a shard: what the manifests say of its rows and of the images that they need."""
        rows = self.version.manifest.shards[shard].rows_out
        table = self.version.entry("table", shard).bytes
        images = [(one.entry("tar", shard).bytes, one.manifest.shards[shard].rows_out) for one in self._joined()]
        each = sum(size for size, _ in images) / max(1, sum(count for _, count in images))
        return table + round(each * rows * len(self.sides))

    def batches(self, shard: int) -> Iterator[Batch]:
        """The rows of a shard in their order. Raises StoreCorrupt, Evicted."""
        table, files = self.table(shard), self._files(shard)
        for part in cut(table, [files.sizes(table[name].to_pylist()) for name in self.sides.values()]):
            pictures = {side: files.pictures(part[name].to_pylist()) for side, name in self.sides.items()}
            yield Batch(part, pictures)

    def table(self, shard: int) -> pa.Table:
        """The columns of a shard without its pictures."""
        whole = restored(self.version.table(shard))
        if self.version.ref.kind == "kept":
            whole = self._kept(whole["id"], shard)
        if self.sides:
            whole = self._with_facts(whole, shard)
        return whole.select(self.schema.names).cast(self.schema)

    def _open(self, ref: ArtifactRef) -> Version:
        if ref.version not in self._opened:
            self._opened[ref.version] = self.store.open(ref)
        return self._opened[ref.version]

    def _parents(self, kind: str) -> list[ArtifactRef]:
        return [ref for ref in self.version.parents if ref.kind == kind] if self.sides else []

    def _joined(self) -> list[Version]:
        return self.images if self.sides else []

    def _scores(self) -> dict[str, Version]:
        """By name the scores that decided about KEPT."""
        if self.version.ref.kind != "kept":
            return {}
        names = self.version.plan.config.get("names", [])
        assert isinstance(names, list), "stage filter lists them"
        return {str(name): self.store.open(ref) for name, ref in zip(names, self._parents("scores"), strict=True)}

    def _schema(self) -> pa.Schema:
        kind = self.version.ref.kind
        given = plain(declared_schema(self.images[0] if kind == "kept" else self.version))
        fields = [field.with_type(pa.binary()) if is_bytes(field.type) else field for field in given]
        if self.sides:
            fields = [field for field in fields if field.name not in WHERE] + list(FACTS)
        for name, version in self.scores.items():
            fields += [field.with_name(f"{name}_{field.name}") for field in answers(version)]
        names = [field.name for field in fields]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError(f"{self.version.ref}: two columns would be called {repeated[0]}; rename a score")
        return pa.schema([field.with_nullable(True) for field in fields])

    def _kept(self, ids: pa.ChunkedArray, shard: int) -> pa.Table:
        """The images with these ids, each with its scores."""
        whole = self.images[0].table(shard)
        for name, version in self.scores.items():
            scored = version.table(shard)
            if not scored["id"].equals(whole["id"]):
                raise StoreCorrupt(f"{version.ref} shard {shard}: its rows are not those of {self.images[0].ref}")
            for field in answers(version):
                whole = whole.append_column(f"{name}_{field.name}", scored[field.name])
        return whole.take(_places(ids, whole["id"], f"{self.images[0].ref} shard {shard}"))

    def _with_facts(self, table: pa.Table, shard: int) -> pa.Table:
        """Source and licence as the image has them, else as its prompt has them."""
        made, place = self._origin(shard)
        prompts = [ref for ref in made.parents if ref.kind == "prompts"]
        asked = self._open(prompts[0]) if prompts else None
        told = asked.table(place, columns=["id", *WHERE]) if asked and asked.n_shards == made.n_shards else None
        for field in FACTS:
            own = _blank_as_null(table[field.name]) if field.name in table.column_names else None
            other = _looked_up(told, field.name, table["prompt_id"])
            found = other if own is None else pc.coalesce(own, other)
            table = table.drop_columns([field.name]) if own is not None else table
            table = table.append_column(field.name, found)
        return table

    def _origin(self, shard: int) -> tuple[Version, int]:
        """The version that drew a shard of images, and its shard there: `join` only lays versions side by side."""
        made = self.images[0]
        while made.plan.stage == "join":
            for part in map(self._open, made.parents):
                if shard < part.n_shards:
                    made = part
                    break
                shard -= part.n_shards
        return made, shard

    def _files(self, shard: int) -> "_Files":
        return _Files([(one, shard) for one in self._joined()])


class _Files:
    """The image files of a shard of some versions, found by id. Each tar is verified once, and mapped."""

    def __init__(self, places: Sequence[tuple[Version, int]]) -> None:
        self._found: dict[str, tuple[memoryview, int, int, str]] = {}
        for version, shard in places:
            tar = memoryview(version.read(version.entry("tar", shard)))
            for row in version.index(shard).to_pylist():
                if row["extension"] != "json":
                    self._found[row["key"]] = (tar, row["offset"], row["size"], row["extension"])

    def sizes(self, ids: Sequence[str]) -> list[int]:
        """Bytes of each file. Raises StoreCorrupt where one is not there."""
        if missing := next((id for id in ids if id not in self._found), None):
            raise StoreCorrupt(f"image {missing} is named, and is not there; `lightgen verify --all` says more")
        return [self._found[id][2] for id in ids]

    def pictures(self, ids: Sequence[str]) -> list[Picture]:
        """The files themselves."""
        found = []
        for id in ids:
            tar, offset, size, extension = self._found[id]
            found.append(Picture(f"{id}.{extension}", bytes(tar[offset : offset + size])))
        return found


def answers(version: Version) -> list[pa.Field]:
    """The raw answers of SCORES that a table can show: no vectors."""
    own = {field.name for field in (*scores_schema.ROW, *scores_schema.UNSCORED)}
    return [field for field in declared_schema(version) if field.name not in own and not is_bytes(field.type)]


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes, of any length."""
    return pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind)


def cut(table: pa.Table, sizes: Sequence[Sequence[int]]) -> Iterator[pa.Table]:
    """`table` in parts of at most BATCH_ROWS rows and, of the files whose sizes are given, about BATCH_BYTES."""
    each = max(1, table.nbytes // max(1, table.num_rows))
    first, held = 0, 0
    for row in range(table.num_rows):
        held += each + sum(column[row] for column in sizes)
        if held >= BATCH_BYTES or row + 1 - first == BATCH_ROWS:
            yield table.slice(first, row + 1 - first)
            first, held = row + 1, 0
    if first < table.num_rows:
        yield table.slice(first)


def _places(ids: pa.ChunkedArray, among: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    found = pc.index_in(ids, among.combine_chunks())
    if found.null_count:
        raise StoreCorrupt(f"{where}: {found.null_count} of the kept images are not there")
    return found


def _looked_up(told: pa.Table | None, column: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """What the prompts with these ids say; null where that is not known."""
    if told is None:
        return pa.chunked_array([pa.nulls(len(ids), pa.string())])
    return told[column].take(pc.index_in(ids, told["id"].combine_chunks()))


def _blank_as_null(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, ""), None, column)
