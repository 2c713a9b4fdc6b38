"""A dataset folder for others: data files, dataset card and Croissant; whole, or not there.

The files are written into a hidden folder beside the one asked for, each under its own name only once it is complete.
The same command after a kill goes on behind the last complete file. When all are there the folder gets its name.
Memory: what one batch holds, and the columns of one shard of the store.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lightgen.errors import ConfigError
from lightgen.export import card, croissant, parquet, tars
from lightgen.export.facts import COUNTED, Export, Facts, File, facts_of
from lightgen.export.rows import Batch, Rows
from lightgen.progress import SILENT, Progress
from lightgen.storage.local import fsync_folder, speaking_of_space
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.canonical import canonical_json

FORMS = {"parquet": parquet, "webdataset": tars}
REVISION = 1  # of the files: others are not continued
SPLIT = r"[A-Za-z0-9_]{1,64}\Z"
FINISHED = ".finished"  # what is complete, while the folder is made


def export_dataset(version: Version, store: Store, folder: Path, how: Export, progress: Progress = SILENT) -> Facts:
    """Write `version` into `folder`, which must be new or empty.

    Raises ConfigError, StoreCorrupt, Evicted, and StoreFull: then the same call goes on where this one ended.
    """
    folder, rows = folder.absolute(), Rows(version, store)
    _check(rows, folder, how)
    partial = folder.with_name(f".{folder.name}.{_digest(version, how)}.partial")
    with speaking_of_space(folder.parent):
        files = _write_files(rows, partial, how, progress)
        facts = facts_of(version, store, files, how)
        _finish(partial, folder, rows, facts)
    return facts


def _check(rows: Rows, folder: Path, how: Export) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder; nothing was written. Name a new one")
    if not re.match(SPLIT, how.split):
        raise ConfigError(
            f"--split {how.split!r}: letters, digits and '_' only, for it becomes part of the files' names"
        )
    if not rows.version.rows:
        raise ConfigError(f"{rows.version.ref} holds no rows: there is nothing to export")
    if not folder.parent.is_dir():
        raise ConfigError(f"{folder.parent} is no folder; make it first")
    if how.format == "webdataset":
        tars.check_kind(rows)


def _digest(version: Version, how: Export) -> str:
    """Other settings or another version do not continue what is there."""
    named = [REVISION, version.ref.version, version.ref.content, asdict(how)]
    return hashlib.sha256(canonical_json(named)).hexdigest()[:12]


def _write_files(rows: Rows, partial: Path, how: Export, progress: Progress) -> list[File]:
    """The data files, those of an earlier run as they are."""
    groups = grouped([rows.size(shard) for shard in range(rows.version.n_shards)], how.file_bytes)
    form = FORMS[how.format]
    names = [f"{how.split}-{n:05d}-of-{len(groups):05d}.{form.ENDING}" for n in range(len(groups))]
    (partial / "data").mkdir(parents=True, exist_ok=True)
    (partial / FINISHED).mkdir(exist_ok=True)
    found = {name: file for name in names if (file := _finished(partial, name)) is not None}
    progress.start(f"export {rows.version.ref}", rows.version.rows, "rows", sum(one.rows for one in found.values()))
    for name, shards in zip(names, groups, strict=True):
        if name not in found:
            found[name] = _write_file(rows, shards, partial, name, how, progress)
    progress.finish()
    return [found[name] for name in names]


def _write_file(rows: Rows, shards: Iterable[int], partial: Path, name: str, how: Export, progress: Progress) -> File:
    """One data file. Its name, and then a note beside it, say that it is complete."""
    form = FORMS[how.format]
    counts, begun = _Counts(), partial / "data" / f"{name}.begun"
    batches = counts.of((batch for shard in shards for batch in rows.batches(shard)), progress)
    held = form.write(batches, rows, begun)
    _settle(begun)
    sha256 = _sha256(begun)
    begun.replace(partial / "data" / name)
    size = (partial / "data" / name).stat().st_size
    file = File(f"data/{name}", size, sha256, counts.rows, held, counts.lists())
    note = partial / FINISHED / f"{name}.json"
    begun = note.with_suffix(".begun")
    begun.write_bytes(canonical_json(asdict(file)))
    begun.replace(note)
    return file


def _finished(partial: Path, name: str) -> File | None:
    """What a note says of a file that an earlier run completed; None where it did not, or the file was changed."""
    note, path = partial / FINISHED / f"{name}.json", partial / "data" / name
    if not note.exists() or not path.exists():
        return None
    file = File(**json.loads(note.read_bytes()))
    return file if (path.stat().st_size, _sha256(path)) == (file.bytes, file.sha256) else None


def _finish(partial: Path, folder: Path, rows: Rows, facts: Facts) -> None:
    """Card and Croissant, and then the name."""
    written = {"README.md": card.card(rows, facts), "croissant.json": croissant.croissant(rows, facts)}
    if facts.how.format == "webdataset":
        sizes = {Path(file.path).name: file.rows for file in facts.files}
        written["data/sizes.json"] = json.dumps(sizes, indent=1) + "\n"
    for name, text in written.items():
        (partial / name).write_text(text, encoding="utf-8")
        _settle(partial / name)
    shutil.rmtree(partial / FINISHED)
    fsync_folder(partial / "data")
    fsync_folder(partial)
    partial.rename(folder)
    fsync_folder(folder.parent)


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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _settle(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
