"""Pictures in tars as webdataset lays them out: text-to-image-2M, DALLE-3-1M, BLIP3o, what img2dataset writes.

A sample is all members of one key, which ends at the first dot of the base name: a picture (.jpg, .jpeg, .png, .webp),
and a caption in .json or .txt. Its members lie beside each other. A tar is read from its beginning to its end once;
memory: one sample, and of a range of pictures its bytes.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from lightgen.corpora import places
from lightgen.corpora.base import input_changed
from lightgen.corpora.pictures import (
    IMAGES,
    NO_CAPTION,
    NO_PICTURE,
    Found,
    PictureFiles,
    caption_of,
    rehearsed_pictures,
)  # fmt: skip
from lightgen.corpora.ranges import RANGE_BYTES, Inventory, Place, Range
from lightgen.corpora.tar_samples import MAX_MEMBER, Sample, bytes_of, end_of, key_of, record_of, samples, suffix_of

CHUNK = 1 << 20


class PictureTars(PictureFiles):
    """Which tars: one, all `.tar` of a folder, or those that fit a pattern, in order of their names."""

    ENDING: ClassVar[str] = ".tar"

    REVISION: ClassVar[int] = 2
    kind: Literal["webdataset"] = "webdataset"

    def cut(self, rows: int) -> Inventory:
        """See `PictureSet.cut`: a range ends after `rows` pictures, or as many bytes as a worker should hold."""
        ranges, begins, size, count, start = list[Range](), 0, 0, 0, None
        with places.whole(self.path) as file:
            for number, sample in enumerate(samples(file, self.path)):
                if number == self.limit:
                    break
                if start is None:
                    start = begins = sample[0].offset
                count, size = count + 1, end_of(sample) - begins
                if count == rows or size >= RANGE_BYTES:
                    ranges.append(Range(count, size, _sha256(file, begins, size)))
                    begins, count, size = begins + size, 0, 0
            if count:
                ranges.append(Range(count, size, _sha256(file, begins, size)))
            return Inventory(sha256=places.sha256_of(self.path, file), start=start or 0, ranges=tuple(ranges))

    def read(self) -> Iterator[Found]:
        """See `PictureSet.read`."""
        with places.whole(self.path) as file:
            for row, sample in enumerate(samples(file, self.path)):
                if row == self.limit:
                    return
                yield self._found(row, sample, file)

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> Iterator[Found]:
        """See `PictureSet.read_range`."""
        data = places.part(self.path, place.offset, place.range.size)
        if hashlib.sha256(data).hexdigest() != place.range.sha256:
            raise input_changed(self.path, place)
        file = io.BytesIO(data)
        for at, sample in enumerate(samples(file, self.path, part=True)):
            yield self._found(place.first + at, sample, file)

    def write(self, path: Path, captions: list[str]) -> Path:
        """See `PictureSet.write`."""
        with tarfile.open(path / "data_000000.tar", "w") as tar:
            for name, data, caption in rehearsed_pictures(captions):
                record = json.dumps({self.caption_key: caption}).encode()
                for member, content in ((name, data), (f"{name.partition('.')[0]}.json", record)):
                    info = tarfile.TarInfo(member)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        return path

    def _found(self, row: int, sample: Sample, file: BinaryIO) -> Found:
        key = key_of(sample[0].name)
        members: dict[str, tarfile.TarInfo] = {}
        for member in sample:
            suffix = suffix_of(member.name)
            if suffix in members:
                return Found(row, key, reason="member_twice", detail=f"two members {key}{suffix}")
            members[suffix] = member
        picture = next((members[suffix] for suffix in IMAGES if suffix in members), None)
        if picture is None:
            return Found(row, key, reason=NO_PICTURE, detail=f"only {', '.join(sorted(members))}")
        if picture.size > MAX_MEMBER:
            return Found(row, key, reason="too_large", detail=f"{picture.size} bytes > {MAX_MEMBER}")
        caption, why = self._caption(members, file)
        return Found(row, key, bytes_of(picture, file), caption, NO_CAPTION if caption is None else "", why)

    def _caption(self, members: dict[str, tarfile.TarInfo], file: BinaryIO) -> tuple[str | bytes | None, str]:
        """From the JSON where a field is named or there is no text."""
        text, record = members.get(".txt"), members.get(".json")
        if text is not None and self.caption is None:
            return bytes_of(text, file), ""
        if record is None:
            return None, "neither .json nor .txt"
        found = record_of(bytes_of(record, file))
        return (None, found) if isinstance(found, str) else caption_of(found, self.caption)


def _sha256(file: BinaryIO, offset: int, size: int) -> str:
    """Digest of bytes in the middle; the place is put back."""
    before, digest = file.tell(), hashlib.sha256()
    file.seek(offset)
    for left in range(size, 0, -CHUNK):
        digest.update(file.read(min(CHUNK, left)))
    file.seek(before)
    return digest.hexdigest()
