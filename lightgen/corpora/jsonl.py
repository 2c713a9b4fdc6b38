"""JSON lines: one field of an object a line."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64
from pydantic import Field

from lightgen.corpora.fields import SHOWN, Found, captions_of, gathered, missing_field, value_of
from lightgen.corpora.json_values import json_values
from lightgen.corpora.lines import COMPRESSED, LineCorpus, Records
from lightgen.corpora.plain_bytes import is_utf8, not_utf8
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import MALFORMED, RawCaptions, binary
from lightgen.corpora.text import lines_of
from lightgen.errors import InputCorrupt

LOOKED_AT = 100  # first records, of which one must have the field
BAD_JSON = (ValueError, RecursionError)
Lost = list[tuple[np.ndarray, tuple[str, str]]]  # which records give no caption, and why; of several reasons the last
Rows = Int64[np.ndarray, " n"]
AtOnce = tuple[pa.LargeBinaryArray, Lost]


class JsonRecords(LineCorpus):
    """What JSON lines and JSON documents share: captions are a field of objects."""

    field: str = Field(
        default="caption", description="that of the captions; `a.b` is the field `b` of the object in field `a`"
    )

    def found_in(self, record: Any) -> Found:
        """The captions of a record."""
        if isinstance(record, str):
            return captions_of(record)  # a list of texts is a list of captions
        if not isinstance(record, dict):
            return MALFORMED, f"{type(record).__name__}, not an object"
        return captions_of(value_of(record, self.field)[1])

    def at_once(self, records: Sequence[Any]) -> AtOnce | None:
        """The captions of all records and where there are none, if no record is so odd that it must be looked at."""
        texts = _texts(records, self.field)
        return None if texts is None else (texts, [])

    def has_captions(self, record: Any) -> bool:
        """Whether a record has what the settings ask for, whatever its value is."""
        return isinstance(record, str) or (isinstance(record, dict) and value_of(record, self.field)[0])

    def of_records(self, records: Sequence[Any], rows: Rows, raw: Callable[[int], bytes]) -> RawCaptions:
        """The captions of parsed records; a record that is a tuple is a refusal. `raw` gives the bytes of one."""
        if (at_once := self.at_once(records)) is not None:
            return self._refusing(*at_once, rows, raw)
        found = [record if isinstance(record, tuple) else self.found_in(record) for record in records]
        return self.batch(*gathered(found, rows, lambda at: raw(at).strip()))

    def _refusing(self, texts: pa.LargeBinaryArray, lost: Lost, rows: Rows, raw: Callable[[int], bytes]) -> RawCaptions:
        refused = refusals(lost)
        if refused:
            shown = [raw(place).strip()[:SHOWN] for place in sorted(refused)]
            texts = pc.replace_with_mask(texts, mask_of(refused, len(texts)), binary(shown))
        return self.batch(texts, rows, refused=refused)


class JsonLines(JsonRecords):
    """What kinds of JSON lines share. A line that is no JSON object is refused; a blank one holds nothing."""

    ENDINGS: ClassVar[tuple[str, ...]] = tuple(
        f"{name}{packed}" for name in (".jsonl", ".ndjson", ".json") for packed in COMPRESSED
    )

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        lines = [json.dumps({"id": row} | nested(self.field, caption)) for row, caption in enumerate(captions)]
        path.write_text("\n".join(lines) + "\n", encoding=self.encoding)

    def told(self, head: bytes) -> tuple[str, ...]:
        """See `LineCorpus.told`. Raises InputCorrupt for a document that goes on over lines."""
        begins = head.lstrip()
        if begins.startswith(b"[") or begins.split(b"\n", 1)[0].strip() == b"{":
            raise one_document(self.path)
        return super().told(head)

    def check(self, records: Records, inventory: Inventory) -> None:
        """See `LineCorpus.check`: some of the first lines must be objects, and have the field."""
        lines = [line for line in lines_of(records.first(LOOKED_AT)) if line.strip()]
        read = [parsed(line, self.field) for line in lines]
        known = [record for record in read if isinstance(record, dict)]
        if len(read) > 1 and not known:
            raise InputCorrupt(
                f"{self.path} holds no JSON lines: none of its first {len(read)} lines is an object; of the first: "
                f"{read[0][1]}. Use the kind that its layout has, or write one object a line"
            )
        if not known or any(map(self.has_captions, known)):
            return
        if any(_is_list_of_objects(value) for value in known[0].values()) and len(known) == 1:
            raise one_document(self.path)
        if not all(map(is_utf8, lines)):
            raise not_utf8(self.path, f"no record has a field {self.field!a}")
        raise InputCorrupt(missing_field(self.path, self.field, known[0]))

    def captions(self, records: Records, first: int, inventory: Inventory) -> RawCaptions:
        """See `LineCorpus.captions`."""
        lines = lines_of(records)
        rows = first + np.arange(len(lines))
        if not all(lines) or any(line.isspace() for line in lines):
            rows = rows[[bool(line.strip()) for line in lines]]
            lines = [line for line in lines if line.strip()]
        return self.of_records(self._parsed(lines), rows, lines.__getitem__)

    def _parsed(self, lines: list[bytes]) -> list[Any]:
        """The records of lines, in one call where all are sound; a line that is not is its refusal."""
        # Where the name stands no more often than there are records that have it, none has it twice.
        times = b"".join(lines).count(f'"{_last(self.field)}"'.encode())
        try:
            # The zeros between show that no line holds half a record or two.
            records = json_values(b",0,".join(lines)) if times <= len(lines) else []
        except BAD_JSON:
            records = []
        if lines and len(records) == 2 * len(lines) - 1 and not any(records[1::2]):
            records = [_checked(record) for record in records[::2]]
            if times <= self._having(records):
                return records
        return [parsed(line, self.field) for line in lines]

    def _having(self, records: list[Any]) -> int:
        """How many of the records have the field."""
        if "." in self.field:
            return sum(isinstance(record, dict) and value_of(record, self.field)[0] for record in records)
        return sum(self.field in record for record in records)

    def check_end(self, last: bytes, rest: bytes) -> None:
        """See `LineCorpus.check_end`."""
        if last.strip() and not last.endswith(b"\n") and isinstance(parsed(last, self.field), tuple):
            raise InputCorrupt(
                f"{self.path} ends within a record, its last line: it was cut short. Fetch or write it again"
            )


class JsonlCorpus(JsonLines):
    """One field of a JSON lines file."""

    REVISION: ClassVar[int] = 3
    kind: Literal["jsonl"] = "jsonl"


def refusals(lost: Lost) -> dict[int, tuple[str, str]]:
    """Why there is no caption, by place."""
    return {place: why for at, why in lost for place in np.flatnonzero(at).tolist()}


def mask_of(places: Iterable[int], size: int) -> pa.BooleanArray:
    """True at the places, of so many."""
    mask = np.zeros(size, bool)
    mask[list(places)] = True
    return pa.array(mask)


def parsed(line: bytes, field: str) -> Any:
    """The record of a line, or the reason and the detail why there is none."""
    try:
        record = json.loads(
            line.decode("utf-8", "surrogateescape"), object_pairs_hook=lambda pairs: _once(pairs, field)
        )
    except BAD_JSON as error:
        return MALFORMED, f"not JSON: {error}" if isinstance(error, ValueError) else "not JSON: nested too deeply"
    return _checked(record)


def _checked(record: Any) -> Any:
    """The record, or the reason and the detail why it is none. A text alone is a caption in documents, not in lines."""
    return record if type(record) is dict else (MALFORMED, f"{type(record).__name__}, not an object")


def _once(pairs: list[tuple[str, Any]], field: str) -> dict[str, Any]:
    record, last = dict(pairs), _last(field)
    if len(record) != len(pairs) and sum(name == last for name, _ in pairs) > 1:
        raise ValueError(f"the key {last!r} stands twice")
    return record


def _last(field: str) -> str:
    """The last name of a path."""
    return field.rpartition(".")[2]


def one_document(path: str) -> InputCorrupt:
    """The error for JSON that is not lines."""
    return InputCorrupt(
        f"{path} is one JSON document, not lines: use kind `json`, or `coco` or `conversations` for those layouts"
    )


def nested(field: str, value: Any) -> dict[str, Any]:
    """An object that has `value` at a path."""
    head, dot, rest = field.partition(".")
    return {head: nested(rest, value) if dot else value}


def _texts(records: Sequence[Any], field: str) -> pa.LargeBinaryArray | None:
    """The texts of records, where each is an object with a text or nothing in the field, or each is a text."""
    try:
        if not isinstance(records[0], str):
            return pa.array(_values(records, field), pa.large_string()).cast(pa.large_binary())
        texts = pa.array(records, pa.large_string())
        return None if texts.null_count else texts.cast(pa.large_binary())
    except (IndexError, TypeError, UnicodeError, pa.ArrowException):
        return None


def _values(records: Sequence[Any], field: str) -> list[Any]:
    """What stands in the field. Raises TypeError where a record is no object."""
    try:
        return [record[field] for record in records]
    except KeyError:
        if not all(isinstance(record, dict) for record in records):
            raise TypeError from None
        return [value_of(record, field)[1] for record in records]


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
