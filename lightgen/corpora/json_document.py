"""One JSON document: an array of records, at its top or under a key. It is read in pieces, never as a whole.

HPSv2's prompts (an array of texts), TIFA, ShareGPT-4o-Image and T2I lists are such files; COCO's is one with a kind of
its own.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

from pydantic import Field

from lightgen.corpora.fields import missing_field
from lightgen.corpora.json_scan import find_array, item_ends, one_item
from lightgen.corpora.jsonl import BAD_JSON, LOOKED_AT, JsonRecords, nested
from lightgen.corpora.lines import COMPRESSED, Ends
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import RawCaptions
from lightgen.errors import InputCorrupt

WHITE = b" \t\r\n"


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

    def ends(self, data: bytes, last: bool, form: tuple[str, ...]) -> Ends:
        """See `LineCorpus.ends`: after the comma of a record, or where the last one ends."""
        return item_ends(data, last)

    def check(self, data: bytes, ends: Ends, inventory: Inventory) -> None:
        """See `LineCorpus.check`: some of the first records must have captions."""
        some = ends[:LOOKED_AT]
        records = self._parsed(data[: int(some[-1])], some, 0)
        known = [record for record in records if not isinstance(record, tuple)]
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

    def captions(self, data: bytes, ends: Ends, first: int, inventory: Inventory) -> RawCaptions:
        """See `LineCorpus.captions`. Raises InputCorrupt."""
        records = self._parsed(data, ends, first)
        begins = [0, *ends[:-1].tolist()]
        rows = range(first, first + len(records))
        return self.of_records(records, rows, lambda at: data[begins[at] : int(ends[at])])

    def _parsed(self, data: bytes, ends: Ends, first: int) -> list[Any]:
        try:
            records = json.loads(b"[" + data.rstrip(WHITE).removesuffix(b",") + b"]")
            if len(records) == len(ends):
                return records
        except BAD_JSON:
            pass
        bounds = zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
        return [one_item(data[begin:end]) for begin, end in bounds]


class JsonCorpus(JsonDocument):
    """A field of the records of one JSON document, or texts in an array."""

    kind: Literal["json"] = "json"
    items: str = Field(default="", description="key of the array of records; empty where the document is the array")

    @property
    def array(self) -> str:
        """See `JsonDocument.array`."""
        return self.items
