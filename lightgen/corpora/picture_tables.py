"""Pictures in Parquet: a column of bytes, or of the Hub's struct of bytes and path, and one of captions.

Memory: one batch of rows, and of a range of pictures its bytes.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from lightgen.corpora import places
from lightgen.corpora.columns import python_values
from lightgen.corpora.fields import listed
from lightgen.corpora.parquet_limits import groups_of, opened, sound
from lightgen.corpora.pictures import (
    CAPTIONS,
    NO_CAPTION,
    NO_PICTURE,
    Found,
    PictureFiles,
    caption_of,
    rehearsed_pictures,
    same,
)  # fmt: skip
from lightgen.corpora.ranges import Inventory, Place, Range
from lightgen.errors import InputCorrupt

COLUMNS = ("image", "jpg", "png", "webp", "bytes")
BATCH_ROWS = 16


class PictureTables(PictureFiles):
    """Which Parquet files: one, all of a folder, or those that fit a pattern, in order of their names."""

    ENDING: ClassVar[str] = ".parquet"

    kind: Literal["parquet"] = "parquet"
    image: str | None = Field(
        default=None, description=f"column of the picture; null: {', '.join(COLUMNS)}, the first there is"
    )

    def cut(self, rows: int) -> Inventory:
        """See `PictureSet.cut`. Memory: a batch, and digests of one range."""
        ranges, digest, count, size = list[Range](), hashlib.sha256(), 0, 0
        for one in self.read():
            digest.update(one.digest())
            count, size = count + 1, size + len(one.data)
            if count == rows:
                ranges.append(Range(count, size, digest.hexdigest()))
                digest, count, size = hashlib.sha256(), 0, 0
        if count:
            ranges.append(Range(count, size, digest.hexdigest()))
        return Inventory(sha256=places.sha256_of(self.path), ranges=tuple(ranges))

    def read(self) -> Iterator[Found]:
        """See `PictureSet.read`."""
        with places.whole(self.path) as file, sound(self.path):
            parquet = opened(file, self.path, self._columns)
            yield from self._rows(parquet, list(range(parquet.metadata.num_row_groups)), 0)

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> Iterator[Found]:
        """See `PictureSet.read_range`: the row groups that the range lies in, from the first."""
        with places.seekable(self.path) as file, sound(self.path):
            parquet = opened(file, self.path, self._columns, place.rows)
            groups = groups_of(parquet.metadata, place.rows)
            first = sum(parquet.metadata.row_group(group).num_rows for group in range(min(groups, default=0)))
            found = [one for one in self._rows(parquet, groups, first) if one.row in place.rows]
        yield from same(found, self.path, place)

    def write(self, path: Path, captions: list[str]) -> Path:
        """See `PictureSet.write`."""
        rows = [
            {self.image or COLUMNS[0]: {"bytes": data, "path": name}, self.caption_key: caption}
            for name, data, caption in rehearsed_pictures(captions)
        ]
        pq.write_table(pa.Table.from_pylist(rows), path / "train-00000.parquet", row_group_size=8)
        return path

    def _rows(self, parquet: pq.ParquetFile, groups: list[int], first: int) -> Iterator[Found]:
        image, caption = self._columns(parquet.schema_arrow)
        row = first
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=groups, columns=[image, caption]):
            for value, text in zip(*(python_values(batch.column(name)) for name in (image, caption)), strict=True):
                if row == self.limit:
                    return
                yield _found(row, value, *caption_of({caption: text}, caption))
                row += 1

    def _columns(self, schema: pa.Schema) -> list[str]:
        """Those of picture and caption."""
        named = ((self.image, COLUMNS, "image"), (self.caption, CAPTIONS, "caption"))
        return [self._column(schema.names, *one) for one in named]

    def _column(self, names: list[str], given: str | None, known: tuple[str, ...], setting: str) -> str:
        found = next((one for one in ([given] if given else known) if one in names), None)
        if found is None:
            raise InputCorrupt(
                f"{self.path} has no column {given or ' or '.join(known)}; it has {listed(names)}: set `{setting}`"
            )
        return found


def _found(row: int, value: Any, caption: str | bytes | None, why: str) -> Found:
    name = f"{row}"
    if isinstance(value, dict):
        name, value = value.get("path") or name, value.get("bytes")
    if not isinstance(value, bytes):
        return Found(row, name, caption=caption, reason=NO_PICTURE, detail=f"{type(value).__name__}, no bytes")
    return Found(row, name, value, caption, NO_CAPTION if caption is None else "", why)
