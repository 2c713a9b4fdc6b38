"""Reads the headers of Parquet data pages, to find where in the file the values of a column lie.

pyarrow decodes pages but does not say where they are. A header is a Thrift struct in the compact protocol: numbered
fields whose integers are zigzag varints. Nothing more of the Parquet format is implemented here.
"""

from dataclasses import dataclass
from typing import Any

from lightgen.errors import SchemaMismatch, StoreCorrupt

DATA_PAGE, DATA_PAGE_V2 = 0, 3
PLAIN = 0
MAX_DEPTH = 8  # structs in structs; a damaged header must not recurse for ever
MAX_VARINT_BYTES = 10


@dataclass(frozen=True)
class DataPage:
    """One data page of a column without nulls: it holds its values and nothing else.

    `offset` and `size` are in bytes and do not include the header. `crc32` is None where the writer gave none.
    """

    num_values: int
    offset: int
    size: int
    crc32: int | None


def data_pages(data: memoryview, offset: int, size: int, num_values: int, label: str) -> list[DataPage]:
    """The pages of a column chunk that takes `size` bytes from `offset` and holds `num_values` values.

    Raises SchemaMismatch for values that are compressed or encoded, StoreCorrupt for what is no chain of pages.
    """
    pages: list[DataPage] = []
    position, end = offset, offset + size
    while position < end and end <= len(data):
        page = _page(data, position, label)
        pages.append(page)
        position = page.offset + page.size
    found = sum(page.num_values for page in pages)
    if position != end or found != num_values:
        raise StoreCorrupt(
            f"{label}: {found} of {num_values} values in pages up to byte {position}, the column ends at {end} of "
            f"{len(data)}; the file is cut or damaged: run `lightgen verify`, then make this version again"
        )
    return pages


def _page(data: memoryview, position: int, label: str) -> DataPage:
    reader = _CompactReader(data, position)
    try:
        header = reader.struct()
        kind, size, crc = header[1], header[3], header.get(4)
        if kind not in (DATA_PAGE, DATA_PAGE_V2):
            raise SchemaMismatch(f"{label}: a page of type {kind} at byte {position}, expected data pages alone")
        page = header[5] if kind == DATA_PAGE else header[8]
        encoding, levels = (page[2], 0) if kind == DATA_PAGE else (page[4], page[5] + page[6])
        num_values = page[1]
    except (IndexError, KeyError) as error:
        raise StoreCorrupt(f"{label}: no page header at byte {position} ({error}); run `lightgen verify`") from error
    if encoding != PLAIN or levels or header[2] != size:
        raise SchemaMismatch(
            f"{label}: encoding {encoding}, {levels} bytes of levels, {header[2]} bytes in {size} at byte {position}; "
            "expected plain values (encoding 0), no levels, no compression, as stage encode writes them"
        )
    return DataPage(num_values, reader.position, size, None if crc is None else crc & 0xFFFFFFFF)


class _CompactReader:
    """A cursor over Thrift's compact protocol. Raises IndexError where the bytes make no sense."""

    def __init__(self, data: memoryview, position: int) -> None:
        self.data, self.position = data, position

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Values by field number; strings and lists, which only statistics use, are skipped (None)."""
        if depth > MAX_DEPTH:
            raise IndexError("structs nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (7, 8):
            return self._skip(8 if kind == 7 else self._varint())
        if kind in (9, 10):
            return self._skip_list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise IndexError(f"field of type {kind}")

    def _skip_list(self, depth: int) -> None:
        head = self._byte()
        count = self._varint() if head >> 4 == 15 else head >> 4
        for _ in range(count):
            self._byte() if head & 15 in (1, 2) else self._value(head & 15, depth + 1)

    def _skip(self, count: int) -> None:
        self.position += count

    def _byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def _varint(self) -> int:
        value = 0
        for index in range(MAX_VARINT_BYTES):
            byte = self._byte()
            value |= (byte & 127) << 7 * index
            if byte < 128:
                return value
        raise IndexError("an integer without an end")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
