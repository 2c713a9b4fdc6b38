"""A folder that `Dataset.save_to_disk` of the library `datasets` wrote: Arrow files, in the order of state.json.

A `DatasetDict` is a folder of such folders: give the one of a split. What the Hub keeps, Parquet in a folder, is kind
`parquet`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Self

import pyarrow as pa

from lightgen.corpora import places
from lightgen.corpora.base import input_changed
from lightgen.corpora.column_corpus import ColumnCorpus
from lightgen.corpora.columns import inner, type_of
from lightgen.corpora.parquet_limits import sound
from lightgen.corpora.ranges import Inventory, Place, values_digest
from lightgen.corpora.raw import RawCaptions
from lightgen.errors import InputCorrupt

STATE = "state.json"
FEATHER = b"ARROW1"  # begins such a file


class DatasetsCorpus(ColumnCorpus):
    """One column of a saved data set, or of one of its Arrow files."""

    ENDINGS: ClassVar[tuple[str, ...]] = (".arrow",)
    kind: Literal["datasets"] = "datasets"

    def files(self) -> list[Self]:
        """See `Corpus.files`: those that state.json names, where there is one. Raises InputCorrupt."""
        path = self.path.rstrip("/")
        known = places.files_of(path, "/" + STATE) if not path.endswith(self.ENDINGS) else []
        if known == [f"{path}/{STATE}"]:
            names = self._named(known[0])
            return [self.model_copy(update={"path": f"{path}/{name}"}) for name in names]
        if len(known) > 1:
            splits = ", ".join(sorted(one.split("/")[-2] for one in known))
            raise InputCorrupt(f"{self.path} holds several splits: {splits}. Give the folder of one")
        return super().files()

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        table = pa.table({"id": range(len(captions)), self.column: pa.array(captions, pa.string())})
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)

    def columns_in(self, file: BinaryIO) -> tuple[pa.DataType, Iterator[pa.Array]]:
        """See `ColumnCorpus.columns_in`."""
        begins = file.read(len(FEATHER))
        file.seek(0)
        if begins == FEATHER:
            raise InputCorrupt(
                f"{self.path} is Arrow as a file (Feather), and `datasets` saves Arrow as a stream. Write it as "
                "Parquet, for kind `parquet`"
            )
        reader = pa.ipc.open_stream(file)
        names = self.names_in(reader.schema)
        place = reader.schema.get_field_index(names[0])
        return type_of(reader.schema, names), (inner(batch.column(place), names) for batch in reader)

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> RawCaptions:
        """See `Corpus.read_range`: of a local file other rows are mapped only, an object is read up to the range."""
        parts, before = [pa.array([], pa.large_binary())], 0
        with self.watched(inventory, place), self._mapped() as file, sound(self.path):
            kind, columns = self.columns_in(file)
            for column in columns:
                first, last = max(place.first - before, 0), min(place.first + place.range.rows - before, len(column))
                before += len(column)
                if first < last:
                    parts.append(self.values(column[first:last]))
                if before >= place.first + place.range.rows:
                    break
        values = pa.concat_arrays(parts)
        if values_digest(values) != place.range.sha256:
            raise input_changed(self.path, place)
        return self.of_values(values, place.first, kind)

    def _mapped(self) -> Any:
        if self.path.startswith(places.S3):
            return places.seekable(self.path, 16 * places.AHEAD)
        with places.explained(self.path):
            return pa.memory_map(self.path)

    def _named(self, path: str) -> list[str]:
        """The Arrow files that state.json names."""
        with places.whole(path) as file:
            data = file.read()
        try:
            return [str(one["filename"]) for one in json.loads(data)["_data_files"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputCorrupt(f"{path} names no data files: {error!r}. Save the data set again") from error
