"""A dataset folder for others: data files, dataset card and Croissant; whole, or not there.

Files are made beside the place where they will stand, each under its own name only once it is complete. The same
command after a kill goes on behind the last complete file. Memory: the columns of one shard of the store, and some
batches of pictures.
"""

import fcntl
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lightgen.errors import ConfigError, TryLater
from lightgen.export import card, croissant, parquet, tars
from lightgen.export.facts import COUNTED, Export, Facts, File, facts_of
from lightgen.export.places import FOLDER, place_of
from lightgen.export.rows import Batch, Rows
from lightgen.progress import SILENT, Progress
from lightgen.storage.files import sha256_of_file
from lightgen.storage.local import speaking_of_space
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.canonical import canonical_json

FORMS = {"parquet": parquet, "webdataset": tars}
REVISION = 1  # of the files: others are not continued
SPLIT = r"[A-Za-z0-9_]{1,64}\Z"
FINISHED = "finished"  # notes on data files that are complete
SIZES = "sizes.json"


def export_dataset(version: Version, store: Store, target: str, how: Export, progress: Progress = SILENT) -> Facts:
    """Write `version` to `target`, a new or empty folder or prefix on S3.

    Raises ConfigError, StoreCorrupt, Evicted, StoreAccess, and StoreFull: then the same call goes on where this ended.
    """
    rows, place = Rows(version, store), place_of(target)
    _check(rows, how)
    groups = grouped([rows.size(shard) for shard in range(version.n_shards)], how.file_bytes)
    files = [f"{how.split}-{n:05d}-of-{len(groups):05d}.{FORMS[how.format].ENDING}" for n in range(len(groups))]
    place.check([*files, *([SIZES] if how.format == "webdataset" else [])])
    work = place.on_its_way(_digest(version, how))
    with speaking_of_space(work.parent):
        (work / FOLDER / "data").mkdir(parents=True, exist_ok=True)
        (work / FINISHED).mkdir(exist_ok=True)
        with _alone(work):
            written = _write_files(rows, dict(zip(files, groups, strict=True)), work, how, progress)
            facts = facts_of(version, store, written, how)
            _write_words(work / FOLDER, rows, facts)
            place.deliver(work)
    return facts


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Nobody else writes there meanwhile; the lock goes with the process. Raises TryLater."""
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TryLater(f"another export writes {work}; wait for it, or name another folder") from None
        yield


def _check(rows: Rows, how: Export) -> None:
    if not re.match(SPLIT, how.split):
        raise ConfigError(
            f"--split {how.split!r}: letters, digits and '_' only, for it becomes part of the files' names"
        )
    if not rows.version.rows:
        raise ConfigError(f"{rows.version.ref} holds no rows: there is nothing to export")
    if how.format == "webdataset":
        tars.check_kind(rows)


def _digest(version: Version, how: Export) -> str:
    """Other settings or another version do not continue what is there."""
    named = [REVISION, version.ref.version, version.ref.content, asdict(how)]
    return hashlib.sha256(canonical_json(named)).hexdigest()[:12]


def _write_files(rows: Rows, plan: dict[str, range], work: Path, how: Export, progress: Progress) -> list[File]:
    """The data files by name, each of some shards; those of an earlier run as they are."""
    found = {name: file for name in plan if (file := _finished(work, name)) is not None}
    progress.start(f"export {rows.version.ref}", rows.version.rows, "rows", sum(one.rows for one in found.values()))
    for name, shards in plan.items():
        if name not in found:
            found[name] = _write_file(rows, shards, work, name, how, progress)
    progress.finish()
    return [found[name] for name in plan]


def _write_file(rows: Rows, shards: Iterable[int], work: Path, name: str, how: Export, progress: Progress) -> File:
    """One data file. Its name, and then a note, say that it is complete."""
    path, counts = work / FOLDER / "data" / name, _Counts()
    begun = work / "begun"
    batches = counts.of((batch for shard in shards for batch in rows.batches(shard)), progress)
    held = FORMS[how.format].write(batches, rows, begun)
    _settle(begun)
    file = File(f"data/{name}", begun.stat().st_size, sha256_of_file(begun), counts.rows, held, counts.lists())
    begun.replace(path)
    begun.write_bytes(canonical_json(asdict(file)))
    begun.replace(work / FINISHED / f"{name}.json")
    return file


def _finished(work: Path, name: str) -> File | None:
    """What a note says of a file that an earlier run completed; None where it did not, or the file was changed."""
    note, path = work / FINISHED / f"{name}.json", work / FOLDER / "data" / name
    if not note.exists() or not path.exists():
        return None
    file = File(**json.loads(note.read_bytes()))
    return file if (path.stat().st_size, sha256_of_file(path)) == (file.bytes, file.sha256) else None


def _write_words(folder: Path, rows: Rows, facts: Facts) -> None:
    """Dataset card, Croissant, and the counts of tars."""
    written = {"README.md": card.card(rows, facts), "croissant.json": croissant.croissant(rows, facts)}
    if facts.how.format == "webdataset":
        sizes = {Path(file.path).name: file.rows for file in facts.files}
        written[f"data/{SIZES}"] = json.dumps(sizes, indent=1) + "\n"
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
        _settle(folder / name)


def grouped(sizes: Sequence[int], limit: int) -> list[range]:
    """Shards of the store as they share files: one after the other while they take no more than `limit` bytes."""
    groups, first, held = [], 0, 0
    for shard, size in enumerate(sizes):
        if shard > first and held + size > limit:
            groups.append(range(first, shard))
            first, held = shard, 0
        held += size
    return [*groups, range(first, len(sizes))]


@dataclass
class _Counts:
    """What is counted while rows pass."""

    rows: int = 0
    found: dict[str, Counter] = field(default_factory=dict)

    def of(self, batches: Iterable[Batch], progress: Progress) -> Iterator[Batch]:
        """The same batches."""
        for batch in batches:
            yield batch
            self.rows += len(batch.table)
            for name, columns in COUNTED.items():
                if set(columns) <= set(batch.table.column_names):
                    values = zip(*(batch.table[column].to_pylist() for column in columns), strict=True)
                    self.found.setdefault(name, Counter()).update(values)
            progress.advance(len(batch.table))

    def lists(self) -> dict[str, list[list]]:
        """As JSON: the most frequent first."""
        return {
            name: [[*key, count] for key, count in sorted(counter.items(), key=lambda item: (-item[1], str(item[0])))]
            for name, counter in self.found.items()
        }


def _settle(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
