"""Pictures of a folder: each with a .txt or .json beside it, or all in one CSV, TSV or JSONL of names and captions.

Without a list every picture of the folder and its subfolders is read, in order of its path; with one, what it names, in
its order. Memory: the names of the folder, or the rows of the list.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lightgen.corpora.fields import listed
from lightgen.corpora.pictures import (
    IMAGES,
    NO_CAPTION,
    NO_PICTURE,
    Found,
    PictureSet,
    caption_of,
    digest_of,
    rehearsed_pictures,
    same,
)  # fmt: skip
from lightgen.corpora.ranges import Inventory, Place, Range
from lightgen.errors import InputCorrupt
from lightgen.storage.pixels import LIMITS

# Columns that are taken for the name of the file where none is named.
NAMES = ("file_name", "filename", "file", "image", "path", "name")


class PictureFolder(PictureSet):
    """Which folder, and where the captions stand."""

    kind: Literal["folder"] = "folder"
    captions: str | None = Field(
        default=None, description="file in the folder that lists names and captions, .csv, .tsv or .jsonl; null: beside"
    )
    name: str | None = Field(
        default=None, description=f"column of the file's name; null: {', '.join(NAMES)}, the first there is"
    )

    def state(self) -> str:
        """See `PictureSet.state`: names, sizes and times of change."""
        found = []
        for path in [*self._paths(), *self._list_paths()]:
            status = path.stat() if path.is_file() else None
            found.append([str(path), *((status.st_size, status.st_mtime_ns) if status else ())])
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()

    def cut(self, rows: int) -> Inventory:
        """See `PictureSet.cut`. Memory: the names, and the digests of one range."""
        ranges, whole = list[Range](), hashlib.sha256()
        names = self._names()
        for first in range(0, len(names), rows):
            found = [self._one(first + place, name) for place, name in enumerate(names[first : first + rows])]
            ranges.append(Range(len(found), sum(len(one.data) for one in found), digest_of(found)))
            whole.update(ranges[-1].sha256.encode())
        return Inventory(sha256=whole.hexdigest(), ranges=tuple(ranges))

    def read(self) -> Iterator[Found]:
        """See `PictureSet.read`."""
        return (self._one(row, name) for row, name in enumerate(self._names()))

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> Iterator[Found]:
        """See `PictureSet.read_range`."""
        names = self._names()[place.first : place.first + place.range.rows]
        yield from same([self._one(place.first + at, name) for at, name in enumerate(names)], self.path, place)

    def write(self, path: Path, captions: list[str]) -> Path:
        """See `PictureSet.write`."""
        rows = list(rehearsed_pictures(captions))
        for name, data, caption in rows:
            (path / name).write_bytes(data)
            if self.captions is None:
                (path / name).with_suffix(".txt").write_text(caption, encoding="utf-8")
        if self.captions is None:
            (path / rows[0][0]).with_suffix(".txt").unlink()
            return path
        table = path / Path(self.captions).name
        with table.open("w", encoding="utf-8", newline="") as file:
            listed = [{self.name or NAMES[0]: name, self.caption_key: caption} for name, _, caption in rows]
            listed.append({self.name or NAMES[0]: "missing.jpg", self.caption_key: "not there"})
            if table.suffix == ".jsonl":
                file.writelines(f"{json.dumps(row)}\n" for row in listed)
            else:
                writer = csv.DictWriter(file, list(listed[0]), delimiter=_separator(table))
                writer.writeheader()
                writer.writerows(listed)
        return path

    def rehearsed(self, folder: Path) -> dict[str, Any]:
        """See `PictureSet.rehearsed`."""
        return {"captions": None if self.captions is None else Path(self.captions).name}

    @property
    def _root(self) -> Path:
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise InputCorrupt(f"{self.path} is no folder of this machine. Check the path")
        return root

    def _list_paths(self) -> list[Path]:
        return [] if self.captions is None else [self._root / self.captions]

    def _paths(self) -> list[Path]:
        root = self._root
        if self.captions is not None:
            return [root / name for name in self._names()]
        pictures = [path for path in root.rglob("*") if path.suffix.lower() in IMAGES and path.is_file()]
        return sorted(path for path in pictures if not any(part.startswith(".") for part in path.parts))

    def _names(self) -> list[str]:
        if self.captions is not None:
            return [name for name, _, _ in self._listed()][: self.limit]
        root = self._root
        return [path.relative_to(root).as_posix() for path in self._paths()][: self.limit]

    def _one(self, row: int, name: str) -> Found:
        path, root = (self._root / name).resolve(), self._root.resolve()
        if not path.is_relative_to(root):
            return Found(row, name, reason=NO_PICTURE, detail="the name leaves the folder")
        if not path.is_file():
            return Found(row, name, reason=NO_PICTURE, detail=f"no file {name}")
        caption, why = self._caption(row, path)
        try:
            if path.stat().st_size > LIMITS.bytes:
                return Found(row, name, caption=caption, reason="too_large", detail=f"{path.stat().st_size} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise InputCorrupt(f"cannot read {path}: {error}. Check your access to it") from error
        return Found(row, name, data, caption, NO_CAPTION if caption is None else "", why)

    def _caption(self, row: int, picture: Path) -> tuple[str | bytes | None, str]:
        if self.captions is not None:
            return self._listed()[row][1:]
        text, record = picture.with_suffix(".txt"), picture.with_suffix(".json")
        if text.is_file() and self.caption is None:
            return text.read_bytes(), ""
        if not record.is_file():
            return None, f"neither {text.name} nor {record.name} lies beside it"
        try:
            found = json.loads(record.read_bytes())
        except ValueError as error:
            return None, f"{record.name} is not JSON: {error}"
        return caption_of(found, self.caption) if isinstance(found, dict) else (None, f"{record.name} is no object")

    def _listed(self) -> tuple[tuple[str, str | bytes | None, str], ...]:
        """Name of the file, caption, and why there is none, for each row of the list."""
        assert self.captions is not None, "asked before"
        path = self._root / self.captions
        try:
            changed = path.stat()
            return _read_list(path, self.name, self.caption, (changed.st_mtime_ns, changed.st_size))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputCorrupt(f"cannot read {path}: {error}. Check the path, and that it is UTF-8") from error


@lru_cache(8)
def _read_list(path: Path, name: str | None, caption: str | None, state: tuple[int, int]) -> tuple[Any, ...]:
    rows = _rows(path)
    if not rows:
        return ()
    column = next((one for one in ([name] if name else NAMES) if one in rows[0]), None)
    if column is None:
        raise InputCorrupt(
            f"{path} has no column {name or ' or '.join(NAMES)}; it has {listed(rows[0])}: set `name` to the "
            "column of the file's name"
        )
    return tuple((str(row.get(column) or ""), *caption_of(row, caption)) for row in rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() != ".jsonl":
        csv.field_size_limit(1 << 24)
        return [
            {key: value for key, value in row.items() if key is not None}
            for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=_separator(path))
        ]
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputCorrupt(f"{path}:{number} is not JSON: {error}") from None
            rows.append(row if isinstance(row, dict) else {})
    return rows


def _separator(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","
