"""Deterministic ustar shards by hand-built headers, and a strict reader of them.

Format: POSIX.1-1988 ustar, regular files only, mode 0644, all times and owners zero. Plain webdataset, `tarfile` and
`tar` read it. A sample is its key, a dot and an extension, so a key has no dot.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from lightgen.errors import ShardMalformed, UnsafePath

BLOCK = 512
MAX_MEMBER = 64 << 20  # bytes; these two hold for writers and readers
MAX_MEMBERS = 200_000
TAR_KEY = re.compile(r"^[A-Za-z0-9_-]{1,80}\Z")
EXTENSION = re.compile(r"^[A-Za-z0-9_-]{1,16}(\.[A-Za-z0-9_-]{1,16}){0,2}\Z")
# Members that a reader such as webdataset would run, or inflate without a limit.
UNSAFE_EXTENSIONS = {"pyd", "pickle", "pkl", "pth", "pt", "gz", "xz", "bz2", "zst", "zip"}
# Everything of a header but name, size and checksum is the same for each member.
_BEFORE_SIZE = b"0000644\0" + b"0000000\0" * 2
_AFTER_SIZE = b"00000000000\0"
_AFTER_CHECKSUM = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
_CONSTANT_SUM = sum(_BEFORE_SIZE) + sum(_AFTER_SIZE) + sum(_AFTER_CHECKSUM) + 8 * ord(" ")
_PADDING = [bytes(-size % BLOCK) for size in range(BLOCK)]
END = bytes(2 * BLOCK)


@dataclass(frozen=True)
class Member:
    """One member of a tar: where its payload lies, in bytes."""

    name: str
    offset: int
    size: int


def header(name: bytes, size: int) -> bytes:
    """The 512 bytes before a payload; `name` is ASCII of at most 100 bytes, `size` below 8 GiB."""
    octal = b"%011o\0" % size
    checksum = _CONSTANT_SUM + sum(name) + sum(octal)
    return b"".join(
        (name, bytes(100 - len(name)), _BEFORE_SIZE, octal, _AFTER_SIZE, b"%06o\0 " % checksum, _AFTER_CHECKSUM)
    )


def padding(size: int) -> bytes:
    """Zeros from the end of a payload to the next block."""
    return _PADDING[size % BLOCK]


@cache
def check_extension(extension: str) -> None:
    """Raises UnsafePath for an extension that no reader should meet."""
    if not EXTENSION.match(extension) or extension.rsplit(".", 1)[-1].lower() in UNSAFE_EXTENSIONS:
        raise UnsafePath(
            f"{extension!r} is no extension for a sample: letters, digits, '_' and '-', and none of "
            f"{', '.join(sorted(UNSAFE_EXTENSIONS))}"
        )


def check_tar_key(key: str) -> None:
    """Raises UnsafePath for a key that a tar of samples cannot hold."""
    if not TAR_KEY.match(key):
        raise UnsafePath(f"{key[:80]!r} is no key for a sample: 1 to 80 letters, digits, '_' and '-'")


def check_size(name: str, size: int, where: str) -> None:
    """Raises ShardMalformed for a member that is too large."""
    if size > MAX_MEMBER:
        raise ShardMalformed(f"{where}: member {name!r} takes {size:,} bytes, more than the {MAX_MEMBER:,} of a member")


def check_count(count: int, where: str) -> None:
    """Raises ShardMalformed for more members than a tar may have."""
    if count > MAX_MEMBERS:
        raise ShardMalformed(f"{where}: more than {MAX_MEMBERS:,} members; take fewer rows a shard")


def read_members(data: memoryview, where: str) -> Iterator[Member]:
    """Each member of a ustar, strictly. Raises ShardMalformed or UnsafePath before a payload is touched."""
    position, count, seen, last_key = 0, 0, set[str](), ""
    while True:
        block = bytes(data[position : position + BLOCK])
        if block == bytes(BLOCK) and bytes(data[position : position + 2 * BLOCK]) == END:
            return
        if len(block) < BLOCK:
            raise ShardMalformed(f"{where}: ends at byte {len(data)} without an end marker")
        member = _parse(block, position, where)
        check_size(member.name, member.size, where)
        if member.offset + member.size > len(data):
            raise ShardMalformed(f"{where}: member {member.name!r} claims {member.size} bytes, more than there can be")
        key = member.name.split(".", 1)[0]
        if member.name in seen or (key != last_key and key in seen):
            raise ShardMalformed(f"{where}: duplicate or non-contiguous key {member.name!r}")
        count, last_key = count + 1, key
        check_count(count, where)
        seen.update((member.name, key))
        yield member
        position = member.offset + member.size + len(padding(member.size))


def _parse(block: bytes, position: int, where: str) -> Member:
    name = block[:100].split(b"\0", 1)[0].decode("ascii", "replace")
    kind = block[156:157]
    if kind not in (b"0", b"\0"):
        raise UnsafePath(f"{where}: member {name[:100]!r} is of type {kind!r}; only regular files are allowed")
    key, _, extension = name.partition(".")
    if block[345:500].strip(b"\0") or not TAR_KEY.match(key):
        raise UnsafePath(f"{where}: member {name[:100]!r} is no name of a sample, or leaves the shard")
    check_extension(extension)
    try:
        size, checksum = int(block[124:136].strip(b" \0"), 8), int(block[148:156].strip(b" \0"), 8)
    except ValueError:
        raise ShardMalformed(f"{where}: member {name!r} at byte {position}: size or checksum is no number") from None
    if checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise ShardMalformed(f"{where}: member {name!r} at byte {position}: wrong header checksum")
    return Member(name, position + BLOCK, size)
