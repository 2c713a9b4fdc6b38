"""Sets of pictures with captions: what each can do, and how a caption is found in a record.

A set is one or more files in order, each with an inventory as corpora have one: a file is read once and cut into
ranges of pictures with a digest each; a range is read again when its shard is made, and refused where it changed.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field

from lightgen.config import RUN, Member
from lightgen.corpora import places
from lightgen.corpora.base import input_changed
from lightgen.corpora.ranges import Inventory, Place
from lightgen.errors import InputCorrupt
from lightgen.problems import Problem
from lightgen.storage.pixels import ImageFormat
from schemas.canonical import canonical_json

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
# Fields and columns that are taken for the caption where none is named, the first that is there.
CAPTIONS = ("caption", "prompt", "text", "txt")
NO_CAPTION, NO_PICTURE = "no_caption", "no_picture"


@dataclass(frozen=True)
class Found:
    """A picture of a set: its bytes and its caption, or for what `reason` one of them is not there.

    `row` counts the pictures of a file from 0; `name` is what the set calls it.
    """

    row: int
    name: str
    data: bytes = b""
    caption: str | bytes | None = None
    reason: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        # Names of files need not be UTF-8, and keys of JSON can be halves of characters: neither could be written.
        for said in ("name", "detail"):
            object.__setattr__(self, said, getattr(self, said).encode("utf-8", "backslashreplace").decode())

    def digest(self) -> bytes:
        """Digest of all that is read of it."""
        text = self.caption.encode("utf-8", "surrogatepass") if isinstance(self.caption, str) else self.caption
        parts = [hashlib.sha256(part).hexdigest() if part is not None else None for part in (self.data, text)]
        return hashlib.sha256(canonical_json([self.name, *parts, self.reason])).digest()


class PictureSet(Member):
    """Settings of a set of pictures. Where it lies is not among what names it: its inventories do."""

    path: str = Field(min_length=1, json_schema_extra=RUN, description="where it lies")
    source: str = Field(min_length=1, description="name kept with every picture")
    licence: str = Field(default="unknown", description="kept with every picture")
    drawn_by: str = Field(default="import", min_length=1, description="the model that drew them: kept as `generator`")
    caption: str | None = Field(
        default=None, description=f"field or column of the caption; null: {', '.join(CAPTIONS)}, the first there is"
    )
    # Which pictures are read stands in the inventories.
    limit: int | None = Field(
        default=None, ge=1, description="only the first so many of each file", json_schema_extra=RUN
    )

    @property
    def key(self) -> str:
        """Names its pictures beside file and row; stays when the set grows or moves."""
        return self.source

    @property
    def given(self) -> str:
        """Where it lies, as the user gave it: for people, in no name."""
        return self.path

    def files(self) -> list[Self]:
        """The same for each of its files. Raises InputCorrupt where there is none."""
        return [self]

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: no file, or nothing in it that can be read."""
        try:
            first = next(iter(self.files()[0].read()), None)
            if first is None:
                yield Problem("here", "path", f"{self.path} holds no pictures", "give a set that has some")
        except InputCorrupt as error:
            yield Problem("here", "path", str(error), "put it in its place, or change the recipe")

    @abstractmethod
    def state(self) -> str:
        """A text that differs when the content does. Raises InputCorrupt."""

    @abstractmethod
    def cut(self, rows: int) -> Inventory:
        """Read a file once and cut it into ranges of `rows` pictures. Memory: one picture. Raises InputCorrupt."""

    @abstractmethod
    def read(self) -> Iterator[Found]:
        """The pictures of a file, in order. Raises InputCorrupt."""

    @abstractmethod
    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> Iterator[Found]:
        """The pictures of one range. Raises InputChanged where they are not those of the inventory, InputCorrupt."""

    @abstractmethod
    def write(self, path: Path, captions: list[str]) -> Path:
        """Make a small set of the same form in `path`, with odd pictures among them: for a rehearsal."""

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`."""
        from lightgen.corpora.rehearsal import captions

        own = self.own_folder(folder)
        if not own.exists():
            own.mkdir(parents=True)
            self.write(own, captions(f"{self.source} {self.path}"))
        return self.model_copy(update={"path": str(own), "limit": None, **self.rehearsed(own)})

    def rehearsed(self, folder: Path) -> dict[str, Any]:
        """Settings of the small set that are not those of the large one."""
        return {}

    @property
    def caption_key(self) -> str:
        """What a small set calls the caption."""
        return self.caption or CAPTIONS[0]


class PictureFiles(PictureSet):
    """A set that lies in files of one ending: one, all of a folder, or those that fit a pattern, by their names."""

    ENDING: ClassVar[str]

    def files(self) -> list[Self]:
        """See `PictureSet.files`."""
        paths = places.files_of(self.path, self.ENDING)
        if not paths:
            raise InputCorrupt(f"{self.path} holds no {self.ENDING} files. Check the path")
        return [self.model_copy(update={"path": path}) for path in paths]

    def state(self) -> str:
        """See `PictureSet.state`."""
        return places.state_of(self.path)


def digest_of(found: list[Found]) -> str:
    """Digest of the pictures of a range."""
    return hashlib.sha256(b"".join(one.digest() for one in found)).hexdigest()


def same(found: list[Found], path: str, place: Place) -> list[Found]:
    """The pictures, where they are those of the inventory. Raises InputChanged."""
    if len(found) != place.range.rows or digest_of(found) != place.range.sha256:
        raise input_changed(path, place)
    return found


def caption_of(record: Mapping[str, Any], name: str | None) -> tuple[str | bytes | None, str]:
    """The caption in a record, of a list the first, or why there is none."""
    chosen = [one for one in ([name] if name else CAPTIONS) if record.get(one) is not None]
    if not chosen:
        return None, f"no {name or ', '.join(CAPTIONS)}; there is {', '.join(map(str, record))[:200] or 'nothing'}"
    value = record[chosen[0]]
    value = value[0] if isinstance(value, list) and value else value
    if not isinstance(value, str | bytes):
        return None, f"{chosen[0]} is {type(value).__name__}, not text"
    return value, ""


def rehearsed_pictures(captions: list[str]) -> Iterator[tuple[str, bytes, str]]:
    """Name, file and caption of small pictures; one is no picture, and one has no caption."""
    from lightgen.fetch.loopback import picture

    for number, caption in enumerate(captions):
        form: ImageFormat = "png" if number % 3 == 0 else "jpg"
        yield f"{number:05d}.{form}", picture(number, form, 96, caption), caption
    yield "90000.jpg", b"no picture", "a lighthouse stands near the sea"
