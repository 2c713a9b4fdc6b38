"""One JSON document: an array of records, at its top or under a key. It is read in pieces, never as a whole.

HPSv2's prompts (an array of texts), TIFA, ShareGPT-4o-Image and T2I lists are such files; COCO's is one with a kind of
its own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Self

from pydantic import Field

from lightgen.corpora.fields import missing_field
from lightgen.corpora.json_scan import WHITE, find_array, parsed_items
from lightgen.corpora.jsonl import LOOKED_AT, JsonRecords, nested
from lightgen.corpora.lines import COMPRESSED, Records
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import RawCaptions
from lightgen.errors import InputCorrupt



@dataclass(frozen=True)
class Items(Records):
    """Items of an array, parsed; one that is a tuple is a refusal."""

    items: list[Any]

    @classmethod
    def of(cls, data: bytes, last: bool) -> Self:
        """The whole items that `data` begins with: see `parsed_items`."""
        items, ends = parsed_items(data, last)
        return cls(data, ends, items)

    def first(self, count: int) -> Self:
        """See `Records.first`."""
        return replace(self, ends=self.ends[:count], items=self.items[:count])


class JsonDocument(JsonRecords):
    """What kinds of JSON documents share. A document that is not sound JSON is refused as a whole, with the place."""

    ENDINGS: ClassVar[tuple[str, ...]] = tuple(f".json{packed}" for packed in COMPRESSED)

    @property
    def array(self) -> str:
        """Key of the array of records; empty for a document that is the array."""
        return ""

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        records = [self.record_of(row, caption) for row, caption in enumerate(captions)]
        path.write_text(json.dumps({self.array: records} if self.array else records), encoding=self.encoding)

    def record_of(self, row: int, caption: str | None) -> dict[str, Any]:
        """A record for a rehearsal."""
        return {"id": row} | nested(self.field, caption)

    def begin(self, file: BinaryIO, head: bytes, found: Inventory) -> tuple[Inventory, bytes]:
        """See `LineCorpus.begin`: what stands before the first record of the array."""
        start, rest = find_array(file, head, self.array, self.path)
        return found.model_copy(update={"start": start}), rest

    def records(self, data: bytes, last: bool, form: tuple[str, ...]) -> "Items":
        """See `LineCorpus.records`: a record ends after its comma, the last one where it ends."""
        return Items.of(data, last)

    def check(self, records: "Items", inventory: Inventory) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `LineCorpus.check`: some of the first records must have captions."""
        known = [item for item in records.items[:LOOKED_AT] if not isinstance(item, tuple)]
        if known and not any(map(self.has_captions, known)):
            names = known[0] if isinstance(known[0], dict) else [type(known[0]).__name__]
            raise InputCorrupt(missing_field(self.path, self.field, names))

    def over(self, rest: bytes) -> bool:
        """See `LineCorpus.over`: the array is closed."""
        return rest.lstrip(WHITE).startswith(b"]")

    def check_end(self, last: bytes, rest: bytes) -> None:
        """See `LineCorpus.check_end`: an array that nothing closes."""
        raise InputCorrupt(
            f"{self.path} is not sound JSON: it is cut short, or broken near {(last + rest)[-60:]!r}. Fetch it again"
        )

    def captions(self, records: "Items", first: int, inventory: Inventory) -> RawCaptions:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `LineCorpus.captions`. Raises InputCorrupt."""
        return self.of_records(records.items, range(first, first + len(records.items)), records.at)


class JsonCorpus(JsonDocument):
    """A field of the records of one JSON document, or texts in an array."""

    kind: Literal["json"] = "json"
    items: str = Field(default="", description="key of the array of records; empty where the document is the array")

    @property
    def array(self) -> str:
        """See `JsonDocument.array`."""
        return self.items
