"""Looks into the dictionary page of a Parquet column without decoding it, which takes as long as reading the column.

A page is a header in Thrift's compact protocol and the values, each behind its length in four bytes.
"""

from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LONG = 64 << 10  # bytes of a value: what is shorter has two zeros in its length
MAX_PAGE = 16 << 20  # bytes; larger dictionaries are left to the decoder
BLOCK = 256 << 10  # bytes that are looked at together
HEADER_BYTES = 64  # what a header has at most
CODECS = {"SNAPPY": "snappy", "ZSTD": "zstd", "GZIP": "gzip"}
DICTIONARY_PAGE, I32 = 2, 5


def all_short(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> bool:
    """Whether every value in the dictionary of a column of texts is shown to be shorter than `LONG`.

    False where a value is longer, and where the page is not laid out as most writers do.
    """
    page = _page(file, chunk)
    return page is not None and _is_chain_of_short(np.frombuffer(page, np.uint8))


def _page(file: BinaryIO, chunk: pq.ColumnChunkMetaData) -> bytes | pa.Buffer | None:
    """The values of the dictionary page, unpacked."""
    if chunk.physical_type != "BYTE_ARRAY" or not chunk.dictionary_page_offset:
        return None
    file.seek(chunk.dictionary_page_offset)
    header = file.read(HEADER_BYTES)
    found = _sizes(header)
    if found is None or max(found[1:]) > MAX_PAGE:
        return None
    begin, plain, packed = found
    file.seek(chunk.dictionary_page_offset + begin)
    data = file.read(packed)
    if len(data) < packed or chunk.compression not in (*CODECS, "UNCOMPRESSED"):
        return None
    if chunk.compression == "UNCOMPRESSED":
        return data
    try:
        return pa.Codec(CODECS[chunk.compression]).decompress(data, plain)
    except (pa.ArrowException, OSError):
        return None  # the decoder says what is wrong with it


def _sizes(header: bytes) -> tuple[int, int, int] | None:
    """Bytes of the header, of the page unpacked and as it lies in the file; None where it is not a dictionary's."""
    at, values = 0, list[int]()
    for _ in range(3):
        if header[at : at + 1] != bytes([1 << 4 | I32]):
            return None
        number, at = _varint(header, at + 1)
        values.append(number >> 1)  # the sign stands last
    end = _end_of_struct(header, at)
    return None if values[0] != DICTIONARY_PAGE or end is None else (end, values[1], values[2])


def _end_of_struct(header: bytes, at: int) -> int | None:
    """Where the struct ends that goes on at `at`: numbers, truth values and structs are passed over."""
    depth = 1
    while depth and at < len(header):
        kind, at = header[at] & 15, at + 1
        if kind == 0:
            depth -= 1
        elif kind == I32:
            _, at = _varint(header, at)
        elif kind == 12:
            depth += 1
        elif kind not in (1, 2):
            return None
    return None if depth else at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = shift = 0
    while at < len(data):
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
        if data[at - 1] < 128:
            break
    return value, at


def _is_chain_of_short(page: np.ndarray) -> bool:
    """Whether lengths below 64 KiB lead from each value to the next, to where less than that is left of the page.

    The upper two bytes of such a length are zero. Text has no zeros, so those that are found are the lengths; where it
    has some, the chain breaks and the answer is no.
    """
    last = len(page) - LONG
    if last <= 0:
        return True
    begins = _ends_of_zeros(page[2 : last + 6])  # of zeros in a row the last two are the upper bytes
    begins = begins[begins < last]
    if not len(begins):
        return False
    lengths = page[begins].astype(np.int64) | page[begins + 1].astype(np.int64) << 8
    ends = begins + 4 + lengths
    return bool(begins[0] == 0 and last <= ends[-1] <= len(page) and (ends[:-1] == begins[1:]).all())


def _ends_of_zeros(page: np.ndarray) -> np.ndarray:
    """Where two zeros stand beside each other and something else behind them; nothing of the last two bytes.

    They are looked for in blocks: room for a whole page takes longer.
    """
    found = [np.zeros(0, np.int64)]
    for at in range(0, len(page) - 2, BLOCK):
        zeros = page[at : at + BLOCK + 2] == 0
        found.append(np.flatnonzero(zeros[:-2] & zeros[1:-1] & ~zeros[2:]) + at)
    return np.concatenate(found)
