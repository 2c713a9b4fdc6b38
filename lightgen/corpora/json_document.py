"""One JSON document: an array of records, at its top or under a key. It is read in pieces, never as a whole.

HPSv2's prompts (an array of texts), TIFA, ShareGPT-4o-Image and T2I lists are such files; COCO's is one with a kind of
its own.
"""

import contextlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from lightgen.corpora.fields import missing_field
from lightgen.corpora.json_scan import WHITE, find_array, item_ends, items_at_once, one_item
from lightgen.corpora.json_values import json_values
from lightgen.corpora.jsonl import BAD_JSON, LOOKED_AT, JsonRecords, nested
from lightgen.corpora.lines import COMPRESSED, Ends, Records
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import RawCaptions
from lightgen.errors import InputCorrupt


class Items(Records):
    """Items of an array, parsed; a tuple is a refusal. Where each ends is found out when it is asked for."""

    def __init__(self, data: bytes, items: list[Any], size: int) -> None:
        self.data, self.items, self._size = data, items, size

    @classmethod
    def one_by_one(cls, data: bytes, ends: Ends) -> Self:
        """The items that end there."""
        size = int(ends[-1]) if len(ends) else 0
        made = cls(data, [], size)
        made.ends = ends
        with contextlib.suppress(*BAD_JSON):
            made.items = _parsed(data[:size])
        if len(made.items) != len(ends):
            made.items = [one_item(made.at(place)) for place in range(len(ends))]
        return made

    @cached_property
    def ends(self) -> Ends:
        """See `Records`."""
        return item_ends(self.data[: self._size], True)

    @property
    def size(self) -> int:
        """See `Records.size`."""
        return self._size

    def __len__(self) -> int:
        return len(self.items)

    def first(self, count: int) -> Self:
        """See `Records.first`."""
        return self if count >= len(self) else type(self).one_by_one(self.data, self.ends[:count])


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

    def told(self, head: bytes) -> tuple[str, ...]:
        """See `LineCorpus.told`: no line ends count."""
        return ()

    def begin(self, file: BinaryIO, head: bytes, found: Inventory) -> tuple[Inventory, bytes]:
        """See `LineCorpus.begin`: what stands before the first record of the array."""
        start, rest = find_array(file, head, self.array, self.path)
        return found.model_copy(update={"start": start}), rest

    def ends(self, data: bytes, last: bool, form: tuple[str, ...]) -> Ends:
        """See `LineCorpus.ends`: after the comma of a record, or where the last one ends."""
        return item_ends(data, last)

    def records(self, data: bytes, last: bool, form: tuple[str, ...]) -> Records:
        """See `LineCorpus.records`."""
        at_once = items_at_once(data, last)
        if at_once and len(at_once[0]) >= LOOKED_AT:  # else what is looked at may be more
            return Items(data, *at_once)
        return Items.one_by_one(data, item_ends(data, last))

    def all_records(self, data: bytes, count: int, form: tuple[str, ...]) -> Records:
        """See `LineCorpus.all_records`."""
        with contextlib.suppress(*BAD_JSON):
            items = _parsed(data)
            if len(items) == count:
                return Items(data, items, len(data))
        return Items.one_by_one(data, item_ends(data, True))

    def check(self, records: Records, inventory: Inventory) -> None:
        """See `LineCorpus.check`: some of the first records must have captions."""
        known = [item for item in _items(records, LOOKED_AT) if not isinstance(item, tuple)]
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

    def captions(self, records: Records, first: int, inventory: Inventory) -> RawCaptions:
        """See `LineCorpus.captions`. Raises InputCorrupt."""
        items = _items(records, len(records))
        return self.of_records(items, first + np.arange(len(records)), records.at)


def _parsed(data: bytes) -> list[Any]:
    """The items, after the last of which a comma may stand. Raises ValueError, RecursionError."""
    return json_values(data.rstrip(WHITE).removesuffix(b","))


def _items(records: Records, count: int) -> list[Any]:
    """The first items."""
    made = records if isinstance(records, Items) else Items.one_by_one(records.data, records.ends[:count])
    return made.items[:count]


class JsonCorpus(JsonDocument):
    """A field of the records of one JSON document, or texts in an array."""

    REVISION: ClassVar[int] = 2
    kind: Literal["json"] = "json"
    items: str = Field(default="", description="key of the array of records; empty where the document is the array")

    @property
    def array(self) -> str:
        """See `JsonDocument.array`."""
        return self.items
