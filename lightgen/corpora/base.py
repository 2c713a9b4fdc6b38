"""What every corpus can do: take an inventory of its rows, and read one range of them again, or all."""

import contextlib
import itertools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from pydantic import Field

from lightgen.config import RUN, Member
from lightgen.corpora import places
from lightgen.corpora.ranges import Inventory, Place
from lightgen.corpora.raw import RawCaption, RawCaptions
from lightgen.corpora.rehearsal import captions, odd_captions
from lightgen.errors import InputChanged, InputCorrupt, StoreError
from lightgen.problems import Problem


class Corpus(Member):
    """Settings of a corpus. Where it lies is not among what names it: its inventory does."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Names its records beside their row; stays when the corpus grows or moves."""

    @property
    @abstractmethod
    def given(self) -> str:
        """Where it lies, as the user gave it: for people, in no name."""

    @property
    @abstractmethod
    def sources(self) -> set[str]:
        """What its captions may name as their source."""

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: files, columns and captions that are not there."""
        try:
            if not self.holds_captions():
                yield Problem("here", "", f"{self.given} holds no captions", "give a corpus that has some")
        except (InputCorrupt, StoreError) as error:
            yield Problem("here", "", str(error), "put the file in its place, or change the recipe")

    def holds_captions(self) -> bool:
        """Whether there is a first caption. Raises InputCorrupt where it cannot be read."""
        return next(self.read(), None) is not None

    def files(self) -> list[Self]:
        """The same for each of its files, in order. Raises InputCorrupt where there is none."""
        return [self]

    @abstractmethod
    def state(self) -> str:
        """A text that differs when the content does; reads as little as that takes. Raises InputCorrupt."""

    @abstractmethod
    def cut(self, rows: int) -> Inventory:
        """Read it once and cut it into ranges of `rows` rows. Memory: one range. Raises InputCorrupt."""

    @abstractmethod
    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> RawCaptions:
        """The captions of one range. Raises InputChanged where they are not those of the inventory, InputCorrupt.

        `scratch` is a folder for unpacked data, shared by all ranges and workers of this machine.
        """

    @abstractmethod
    def batches(self) -> Iterator[RawCaptions]:
        """All captions of one file, in order and in parts. Memory: one part. Raises InputCorrupt."""

    def read(self) -> Iterator[RawCaption]:
        """All captions of all files, in order. Raises InputCorrupt."""
        for file in self.files():
            yield from itertools.chain.from_iterable(file.batches())


def input_changed(path: str, place: Place) -> InputChanged:
    """The error that says that a range of a file is not what it was."""
    return InputChanged(
        f"{path} was changed while it was read: rows {place.first + 1} to {place.first + place.range.rows} "
        "are not those that the version is named by. Nothing of them was sealed. Leave the file alone and run the "
        "same command again: it reads the file as it is now, under a name of its own"
    )


class FileCorpus(Corpus):
    """What all file corpora share: where the files are, and what to say of their captions."""

    ENDINGS: ClassVar[tuple[str, ...]]
    """Of the names of files that are read of a folder, in lower case."""

    path: str = Field(
        description="a file, a folder of such files, or a pattern, local or s3://bucket/key", json_schema_extra=RUN
    )
    source: str = Field(description="name kept with every caption")
    licence: str = Field(default="unknown", description="kept with every caption")
    # Which rows are read stands in the inventory.
    limit: int | None = Field(
        default=None, ge=1, description="only the first so many rows of each file", json_schema_extra=RUN
    )

    @property
    def key(self) -> str:
        """See `Corpus.key`."""
        return self.source

    @property
    def sources(self) -> set[str]:
        """See `Corpus.sources`."""
        return {self.source}

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a small file of the same format and columns, with odd rows among the captions."""
        path = self.own_folder(folder) / "captions"
        if not path.exists():
            path.parent.mkdir(parents=True)
            self.write(path, [*odd_captions(), *captions(f"{self.source} {self.path}")])
        return self.model_copy(update={"path": str(path)})

    @abstractmethod
    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """Make a file of these captions; where the format has no null, an empty caption stands for none."""

    def holds_captions(self) -> bool:
        """See `Corpus.holds_captions`; of an object of S3, which would be fetched as a whole, only that it is there."""
        return bool(self.files()[0].state()) if self.path.startswith(places.S3) else super().holds_captions()

    @property
    def given(self) -> str:
        """See `Corpus.given`."""
        return self.path

    def state(self) -> str:
        """See `Corpus.state`."""
        return places.state_of(self.path)

    @contextlib.contextmanager
    def watched(self, inventory: Inventory, place: Place) -> Iterator[None]:
        """Raises InputChanged in place of InputCorrupt, where the file is not that of the inventory."""
        try:
            yield
        except InputCorrupt as error:
            if places.sha256_of(self.path) == inventory.sha256:
                raise
            raise input_changed(self.path, place) from error

    def files(self) -> list[Self]:
        """See `Corpus.files`: in order of their names."""
        paths = places.files_of(self.path, self.ENDINGS)
        if not paths:
            raise InputCorrupt(
                f"{self.path} holds no files that end with {' or '.join(self.ENDINGS)}. Check the path, or give a "
                "pattern for files of other names"
            )
        return [self if path == self.path else self.model_copy(update={"path": path}) for path in paths]

    def batch(
        self,
        text: pa.LargeBinaryArray,
        row: Int64[np.ndarray, " n"],
        part: Int64[np.ndarray, " n"] | None = None,
        refused: Mapping[int, tuple[str, str]] | None = None,
    ) -> RawCaptions:
        """Captions of these rows, counted from 0."""
        return RawCaptions(text, row, self.source, self.licence, self.path, part, refused or {})


class Keyed(Protocol):
    """What has a key beside which its records are named."""

    @property
    def key(self) -> str: ...


One = TypeVar("One", bound=Keyed)


def ordinals(corpora: Sequence[One]) -> Iterator[tuple[One, int]]:
    """Each corpus with how many of its key stand before it, so that two files of one source are told apart."""
    seen: dict[str, int] = {}
    for corpus in corpora:
        yield corpus, seen.setdefault(corpus.key, 0)
        seen[corpus.key] += 1
