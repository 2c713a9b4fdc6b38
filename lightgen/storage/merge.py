"""Row digests of a whole version, merged out of core: its fingerprint, and keys that stand in two shards.

Digests, and hashes of the keys, are dealt to parts by their leading bits; then each part is sorted by itself.

Memory: the digests of one shard and one part of a million rows, 0.1 GB together; above 128 million rows parts grow by
0.6 byte a row. Disk: 40 bytes a row in the folder for temporary files (TMPDIR), from a million rows on. Time: one
reading of all digests and n log n.
"""

import contextlib
import hashlib
import io
import itertools
import math
import tempfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_digest

from lightgen.errors import DuplicateKey, StoreFull
from lightgen.storage.local import FULL
from lightgen.storage.version import Version

PART_ROWS = 1 << 20
MAX_BITS = 7  # 128 parts; each is an open file
DIGEST_BYTES, HASH_BYTES = 32, 8
SUSPECTS = 1_000  # keys that are looked up in one more reading


def checked_fingerprint(version: Version) -> str:
    """The digest of all row digests in sorted order. Raises DuplicateKey where one key stands in two shards."""
    rows = version.rows
    with _speaking_of_room(rows), _Parts(rows, DIGEST_BYTES) as digests, _Parts(rows, HASH_BYTES) as hashes:
        _deal(version, digests, hashes)
        suspects = itertools.chain.from_iterable(_twice(part) for part in hashes)
        while some := set(itertools.islice(suspects, SUSPECTS)):
            _refuse_twice(version, some)
        total = hashlib.sha256()
        for part in digests:
            # In place; compared as bytes to the last one, zeros at the end too.
            part.view(f"S{DIGEST_BYTES}").ravel().sort()
            total.update(part.data)
    return total.hexdigest()


def _deal(version: Version, digests: "_Parts", hashes: "_Parts") -> None:
    for shard in range(version.n_shards):
        table = version.digests(shard)
        raw = digest_bytes(table)
        digests.add(raw)
        # Rows without an id are named by their digest, and two equal rows are then no mistake.
        if len(raw) and table["key"][0].as_py() != raw[0].tobytes().hex():
            hashes.add(_hashes(_keys(table)))


def _keys(table: pa.Table) -> list[bytes]:
    return table["key"].cast(pa.binary()).to_pylist()


@contextlib.contextmanager
def _speaking_of_room(rows: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StoreFull(
            f"{tempfile.gettempdir()} has no room for {rows * (DIGEST_BYTES + HASH_BYTES):,} bytes to sort row digests "
            f"in ({error.strerror}); set TMPDIR to a folder that has, and run the same command again"
        ) from error


def digest_bytes(table: pa.Table) -> np.ndarray:
    """[rows, 32] bytes of the column `digest`, in order."""
    arrays = [array for array in table["digest"].chunks if len(array)]
    views = [np.frombuffer(a.buffers()[1], np.uint8)[a.offset * 32 : (a.offset + len(a)) * 32] for a in arrays]
    return np.concatenate([*views, np.empty(0, np.uint8)]).reshape(-1, DIGEST_BYTES)


def _hashes(keys: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(map(xxh3_64_digest, keys)), np.uint8).reshape(-1, HASH_BYTES)


def _twice(part: np.ndarray) -> Iterator[bytes]:
    """Hashes that are there more than once."""
    words = part.view("<u8").ravel()
    words.sort()
    for word in np.unique(words[1:][words[1:] == words[:-1]]):
        yield word.tobytes()


def _refuse_twice(version: Version, suspects: set[bytes]) -> None:
    """Equal hashes may be of different keys: the keys themselves decide."""
    holders: dict[bytes, list[int]] = {}
    for shard in range(version.n_shards):
        for key in _keys(version.digests(shard)):
            if xxh3_64_digest(key) in suspects:
                holders.setdefault(key, []).append(shard)
    for key, shards in holders.items():
        if len(shards) > 1:
            raise DuplicateKey(f"{version.ref}: key {key.decode()!r} stands in shards {', '.join(map(str, shards))}")


class _Parts:
    """Records of equal width, dealt by their leading bits: the parts in order hold the records in order."""

    def __init__(self, rows: int, width: int) -> None:
        self.width = width
        self.bits = min(MAX_BITS, max(0, math.ceil(math.log2(max(rows, 1) / PART_ROWS))))
        self._open = contextlib.ExitStack()
        make = tempfile.TemporaryFile if self.bits else io.BytesIO
        self._files = [self._open.enter_context(make()) for _ in range(1 << self.bits)]

    def __enter__(self) -> "_Parts":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, records: np.ndarray) -> None:
        """[rows, width] bytes."""
        part = records[:, 0] >> (8 - self.bits)
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(len(self._files)), side="right")
        for file, rows in zip(self._files, np.split(order, ends[:-1]), strict=True):
            if len(rows):
                file.write(records[rows].tobytes())

    def __iter__(self) -> Iterator[np.ndarray]:
        for file in self._files:
            file.seek(0)
            yield np.frombuffer(bytearray(file.read()), np.uint8).reshape(-1, self.width)
