"""Rows of sealed versions that a new version takes over in place of making them again.

Versions of one family differ only in which rows they have: whatever else decides a row is equal. At seal a version is
offered under `reuse/<kind>/<family>/`. A shard that is equal in all rows is linked; other rows are copied, so every
version stays whole by itself, and collection and verification know nothing of reuse. A lender that vanishes lends
nothing: the rows are made. Where a GPU rounds differently from run to run, what a version holds to the last bit thus
depends on what its store held before.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.seeds import content_id
from lightgen.storage.files import Files
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.documents import FileEntry, Plan
from schemas.ref import Kind

log = logging.getLogger(__name__)
NEWEST = 8  # lenders that are looked at


@dataclass(frozen=True)
class LentShard:
    """A shard of another version that is, row for row, the one to be made."""

    lender: Version
    shard: int


def family_of(*parts: object) -> str:
    """The name of a family: a digest of all that decides a row, beside what the row itself reads."""
    return content_id(*parts)


def offer(store: Store, plan: Plan, family: str) -> None:
    """Let later versions of the family take rows from the sealed version of `plan`."""
    store.files.create(f"{_folder(plan.kind, family)}/{plan.version}", [b"{}"])


def withdraw(store: Store, kind: Kind, version: str) -> None:
    """A version that is about to be deleted lends no rows."""
    for family in store.files.names(f"reuse/{kind}"):
        store.files.delete(f"{_folder(kind, family)}/{version}")


def lenders(store: Store, plan: Plan, family: str) -> list[Version]:
    """The newest sealed versions of the family, newest first."""
    offered = set(store.files.names(_folder(plan.kind, family))) - {plan.version}
    if not offered:
        return []
    newest = dict.fromkeys(e.version for e in reversed(store.log(plan.kind)) if e.version in offered)
    found = []
    for version in newest:
        try:
            found.append(Version(store.files, store.manifest(plan.kind, version)))
        except (RefNotFound, StoreCorrupt) as error:
            log.warning("%s@%s lends no rows: %s", plan.kind, version[:12], error)
        if len(found) == NEWEST:
            break
    return found


def link_shard(files: Files, plan: Plan, shard: int, lent: LentShard) -> dict[str, Any]:
    """Link the files of a lent shard under the names of `shard`; what its receipt must say of them."""
    receipt = lent.lender.manifest.shards[lent.shard]
    entries = [_renamed(entry, plan, shard) for entry in receipt.files]
    for old, new in zip(receipt.files, entries, strict=True):
        files.link(f"{lent.lender.folder}/{old.path}", f"{plan.folder}/{new.path}")
    kept = receipt.model_dump(
        include={"fingerprint", "schema_sha256", "rows_in", "rows_out", "rows_rejected", "reject_reasons"}
    )
    return {**kept, "files": entries, "rows_reused": receipt.rows_in}


def _renamed(entry: FileEntry, plan: Plan, shard: int) -> FileEntry:
    folder, _, name = entry.path.partition("/")
    rest = name.split(".", 1)[1]
    return entry.model_copy(update={"path": f"{folder}/part-{shard:05d}-of-{plan.n_shards:05d}.{rest}"})


def _folder(kind: str, family: str) -> str:
    return f"reuse/{kind}/{family}"


Keys = Callable[[Version, int], Sequence[str]]


class Lender:
    """Finds rows of one version by keys of 32 hex digits. Memory: 20 bytes a row, once a row is not where expected."""

    def __init__(self, version: Version, keys: Keys) -> None:
        self.version, self.keys = version, keys

    def shard_keys(self, shard: int) -> list[str]:
        """Keys of all rows and rejects of a shard, in order; none where there is no such shard."""
        return list(self.keys(self.version, shard)) if shard < self.version.n_shards else []

    def shards_of(self, wanted: Sequence[str]) -> dict[int, list[str]]:
        """Those of `wanted` that the version has, by shard."""
        numbers = _numbers(wanted)
        at = np.searchsorted(self._sorted[0], numbers)
        at = np.minimum(at, len(self._sorted[0]) - 1)
        found: dict[int, list[str]] = {}
        for key, place, number in zip(wanted, at.tolist(), numbers, strict=True):
            if len(self._sorted[0]) and self._sorted[0][place] == number:
                found.setdefault(int(self._sorted[1][place]), []).append(key)
        return found

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys as 16 bytes in order, and the shard of each."""
        parts = [_numbers(self.shard_keys(shard)) for shard in range(self.version.n_shards)]
        keys = np.concatenate(parts) if parts else _numbers([])
        shards = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
        order = np.argsort(keys, kind="stable")
        return keys[order], shards[order]


def _numbers(keys: Sequence[str]) -> np.ndarray:
    """Keys of 32 hex digits as 16 bytes each, which compare as the keys do."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype="V16") if keys else np.zeros(0, "V16")


def image_keys(rows: pa.Table) -> list[str]:
    """Keys of rows about images by what is looked at: the bytes of the image and its caption."""
    pairs = zip(rows["image_sha256"].to_pylist(), rows["caption"].to_pylist(), strict=True)
    return [content_id(sha256, caption) for sha256, caption in pairs]


def row_and_reject_ids(version: Version, shard: int) -> list[str]:
    """Ids of the rows of a shard, then those of its rejects."""
    rows = version.table(shard, columns=["id"])["id"].to_pylist()
    return [*rows, *version.rejects(shard)["id"].to_pylist()]


def taken(source: Sequence[Lender], shard: int, wanted: Sequence[str]) -> Iterator[tuple[Lender, int, list[str]]]:
    """Where wanted keys are: lender, shard and keys; each key once, newest lenders first, the same shard first."""
    left = dict.fromkeys(wanted)
    for lender in source if left else ():
        for try_shard, keys in _places(lender, shard, list(left)):
            yield lender, try_shard, keys
            for key in keys:
                left.pop(key, None)
        if not left:
            return


def _places(lender: Lender, shard: int, wanted: list[str]) -> Iterator[tuple[int, list[str]]]:
    """The same shard alone where it has all that is wanted: then nothing else is read."""
    here = set(lender.shard_keys(shard))
    if here.issuperset(wanted):
        yield shard, wanted
        return
    yield from lender.shards_of(wanted).items()
