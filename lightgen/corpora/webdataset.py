"""Captions in tars as webdataset lays them out: text-to-image-2M, DALLE-3-1M, BLIP3o, what img2dataset writes.

A caption is a field of the .json of a sample, or its .txt; pictures are passed over. To import the pictures too, give
the tars to stage `pictures`. Memory: one range of captions.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from pydantic import Field

from lightgen.corpora import places
from lightgen.corpora.base import FileCorpus, input_changed
from lightgen.corpora.columns import batch_of, encoded
from lightgen.corpora.fields import Found, captions_of, value_of
from lightgen.corpora.jsonl import nested
from lightgen.corpora.pictures import CAPTIONS
from lightgen.corpora.ranges import Inventory, Place, Range, values_digest
from lightgen.corpora.raw import BATCH_ROWS, MALFORMED, RawCaptions
from lightgen.corpora.tar_samples import Sample, bytes_of, end_of, record_of, samples, suffix_of

NO_CAPTION = "no_caption"


class WebdatasetCorpus(FileCorpus):
    """The captions of one tar, of all `.tar` of a folder, or of those that fit a pattern."""

    ENDINGS: ClassVar[tuple[str, ...]] = (".tar",)
    REVISION: ClassVar[int] = 2
    kind: Literal["webdataset"] = "webdataset"
    field: str | None = Field(
        default=None,
        description=f"that of the captions in .json; null: the .txt, else {', '.join(CAPTIONS)}, the first there is",
    )

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        with tarfile.open(path, "w") as tar:
            for row, caption in enumerate(captions):
                data = json.dumps(nested(self.field or CAPTIONS[0], caption)).encode()
                info = tarfile.TarInfo(f"{row:06d}.json")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    def cut(self, rows: int) -> Inventory:
        """See `Corpus.cut`. A range is the bytes of its samples; its digest is that of their captions."""
        ranges, held, begins, start = list[Range](), list[Found](), 0, None
        with places.whole(self.path) as file:
            for number, sample in enumerate(samples(file, self.path)):
                if number == self.limit:
                    break
                if start is None:
                    start = begins = sample[0].offset
                held.append(self._found(sample, file))
                if len(held) == rows:
                    ranges.append(_range(held, end_of(sample) - begins))
                    held, begins = [], end_of(sample)
                last = end_of(sample)
            if held:
                ranges.append(_range(held, last - begins))
            return Inventory(sha256=places.sha256_of(self.path, file), start=start or 0, ranges=tuple(ranges))

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> RawCaptions:
        """See `Corpus.read_range`: of a local file the members of text alone are read."""
        found = list[Found]()
        with self.watched(inventory, place), places.seekable(self.path, places.AHEAD) as file:
            file.seek(place.offset)
            for sample in samples(file, self.path):
                found.append(self._found(sample, file))
                if len(found) == place.range.rows:
                    break
        values = encoded(found)
        if values_digest(values) != place.range.sha256:
            raise input_changed(self.path, place)
        return self.batch(*batch_of(values, place.first, False))

    def batches(self) -> Iterator[RawCaptions]:
        """See `Corpus.batches`."""
        held, first = list[Found](), 0
        with places.whole(self.path) as file:
            for number, sample in enumerate(samples(file, self.path)):
                if number == self.limit:
                    break
                held.append(self._found(sample, file))
                if len(held) == BATCH_ROWS:
                    yield self.batch(*batch_of(encoded(held), first, False))
                    held, first = [], first + BATCH_ROWS
        if held:
            yield self.batch(*batch_of(encoded(held), first, False))

    def _found(self, sample: Sample, file: BinaryIO) -> Found:
        members = {suffix_of(member.name): member for member in sample}
        if len(members) < len(sample):
            return MALFORMED, f"a suffix twice among {', '.join(sorted(member.name for member in sample))}"[:200]
        text, record = _ending(members, ".txt"), _ending(members, ".json")
        if text is not None and self.field is None:
            return [bytes_of(text, file)]
        if record is None:
            return NO_CAPTION, f"neither .json nor .txt, only {', '.join(sorted(members))}"[:200]
        found = record_of(bytes_of(record, file))
        if isinstance(found, str):
            return MALFORMED, found
        for name in [self.field] if self.field else CAPTIONS:
            there, value = value_of(found, name)
            if there and (self.field or value is not None):
                return captions_of(value)
        return NO_CAPTION, f"no {self.field or ' or '.join(CAPTIONS)}; there is {', '.join(found)[:200] or 'nothing'}"


def _ending(members: dict[str, tarfile.TarInfo], suffix: str) -> tarfile.TarInfo | None:
    """The member of that suffix, else the only one whose suffix ends so, as where a name has a dot within."""
    alike = [member for name, member in members.items() if name.endswith(suffix)]
    return members.get(suffix, alike[0] if len(alike) == 1 else None)


def _range(held: list[Found], size: int) -> Range:
    return Range(len(held), size, values_digest(encoded(held)))
