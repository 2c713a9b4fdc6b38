"""Samples of tars as webdataset lays them out: all members of one key, which lie beside each other.

A key is the path up to the first dot of the base name, a suffix is the rest in lower case. A key met again later is
another sample. Memory: the headers of one sample.
"""

import json
import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from lightgen.corpora.plain_bytes import BLOCK
from lightgen.errors import InputCorrupt

MAX_MEMBER = 64 << 20  # bytes; a larger one is no picture and no caption
FORKS = "._"  # of files beside them, which tar on a Mac writes
Sample = list[tarfile.TarInfo]


def samples(file: BinaryIO, path: str, part: bool = False) -> Iterator[Sample]:
    """Members of each key, in order. Raises InputCorrupt for what is no tar, or ends too early.

    `part`: the file holds members of a tar, and nothing marks its end.
    """
    held: Sample = []
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # a tar of millions is not remembered
                if not member.isfile() or member.name.rpartition("/")[2].startswith(FORKS):
                    continue
                if held and key_of(member.name) != key_of(held[0].name):
                    yield held
                    held = []
                held.append(member)
            if not part:
                _check_end(file, tar.offset, path)
    except tarfile.TarError as error:
        raise InputCorrupt(f"{path} is no sound tar: {error}. Fetch it again; a compressed one is not read") from error
    if held:
        yield held


def _check_end(file: BinaryIO, end: int, path: str) -> None:
    """Raises InputCorrupt unless zeros alone follow the last member: `tarfile` ends at a header that it cannot read."""
    file.seek(end)
    if len(block := file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        raise InputCorrupt(f"{path} was cut short: no block of zeros ends it after byte {end}. Fetch it again")
    while block:
        if block.strip(b"\0"):
            raise InputCorrupt(
                f"{path} goes on after byte {end}, where no header of a tar can be read: it is damaged, or tars were "
                "written one after the other. Fetch it again, or give each tar by itself"
            )
        block = file.read(BLOCK)


def key_of(name: str) -> str:
    """The path up to the first dot of the base name."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def suffix_of(name: str) -> str:
    """What follows the key, its dot included, in lower case."""
    return f".{name.rpartition('/')[2].partition('.')[2]}".lower()


def end_of(sample: Sample) -> int:
    """The first byte after a sample: blocks are of 512 bytes."""
    last = sample[-1]
    return last.offset_data + -(-last.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def bytes_of(member: tarfile.TarInfo, file: BinaryIO) -> bytes:
    """The payload; a sample that is looked at has been read past already, so the place is put back."""
    before = file.tell()
    file.seek(member.offset_data)
    data = file.read(min(member.size, MAX_MEMBER))
    file.seek(before)
    return data


def record_of(data: bytes) -> dict[str, Any] | str:
    """The object in a .json member, or why there is none. Bytes that are no UTF-8 cost the text that they are in."""
    try:
        found = json.loads(data.decode(json.detect_encoding(data), "surrogateescape"))
    except (ValueError, RecursionError) as error:
        return f".json is not JSON: {error}"
    return found if isinstance(found, dict) else ".json is no object"
