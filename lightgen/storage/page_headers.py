"""Where the values of a Parquet column lie in its file: the headers of its data pages, and no more of the format.

A header is a Thrift struct in the compact protocol: fields by number, integers as zigzag varints. pyarrow decodes pages
but does not say where they are.
"""

from dataclasses import dataclass
from typing import Any

from lightgen.errors import SchemaMismatch, StoreCorrupt

DATA_PAGE, DATA_PAGE_V2 = 0, 3
PLAIN = 0
DEEPEST = 8  # structs in structs; a damaged header must not recurse for ever
LONGEST_VARINT = 10


@dataclass(frozen=True)
class Page:
    """One data page of a column without nulls: nothing but its values, and their CRC-32 where the writer gave one."""

    values: int
    start: int
    size: int
    crc: int | None


def data_pages(data: memoryview, start: int, size: int, values: int, where: str) -> list[Page]:
    """The pages of a column chunk that takes `size` bytes from `start` and holds `values` values.

    Raises SchemaMismatch for values that do not lie there as they are, StoreCorrupt for what is no chain of pages.
    """
    pages: list[Page] = []
    at, end = start, start + size
    while at < end and end <= len(data):
        page = _page(data, at, where)
        pages.append(page)
        at = page.start + page.size
    found = sum(page.values for page in pages)
    if at != end or found != values:
        raise StoreCorrupt(
            f"{where}: {found} of {values} values in pages up to byte {at}, the column ends at {end} of {len(data)}; "
            "the file is cut or damaged: run `lightgen verify`, then make this version again"
        )
    return pages


def _page(data: memoryview, at: int, where: str) -> Page:
    reader = _Compact(data, at)
    try:
        header = reader.struct()
        kind, size, crc = header[1], header[3], header.get(4)
        if kind not in (DATA_PAGE, DATA_PAGE_V2):
            raise SchemaMismatch(f"{where}: a page of type {kind} at byte {at}, expected data pages alone")
        page = header[5] if kind == DATA_PAGE else header[8]
        encoding, levels = (page[2], 0) if kind == DATA_PAGE else (page[4], page[5] + page[6])
        values = page[1]
    except (IndexError, KeyError) as error:
        raise StoreCorrupt(f"{where}: no page header at byte {at} ({error}); run `lightgen verify`") from error
    if encoding != PLAIN or levels or header[2] != size:
        raise SchemaMismatch(
            f"{where}: encoding {encoding}, {levels} bytes of levels, {header[2]} bytes in {size} at byte {at}; "
            "expected plain values (encoding 0), no levels, no compression, as stage encode writes them"
        )
    return Page(values, reader.at, size, None if crc is None else crc & 0xFFFFFFFF)


class _Compact:
    """A cursor over Thrift's compact protocol; IndexError where the bytes make no sense."""

    def __init__(self, data: memoryview, at: int) -> None:
        self.data, self.at = data, at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Values by field number; those of strings, of which statistics are made, are skipped (None)."""
        if depth > DEEPEST:
            raise IndexError("structs nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._number()
            fields[number] = self._value(head & 15, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._number()
        if kind in (7, 8):
            return self._skip(8 if kind == 7 else self._varint())
        if kind in (9, 10):
            return self._list(depth)
        if kind == 12:
            return self.struct(depth + 1)
        raise IndexError(f"field of type {kind}")

    def _list(self, depth: int) -> None:
        head = self._byte()
        count = self._varint() if head >> 4 == 15 else head >> 4
        for _ in range(count):
            self._byte() if head & 15 in (1, 2) else self._value(head & 15, depth + 1)

    def _skip(self, count: int) -> None:
        self.at += count

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for place in range(LONGEST_VARINT):
            byte = self._byte()
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise IndexError("an integer without an end")

    def _number(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
