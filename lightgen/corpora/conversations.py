"""Conversations about images, as LLaVA, ShareGPT4V and LLaVA-NeXT-Data have them: a JSON array, JSON lines or Parquet.

A caption is the first answer of the model. What is said without an image is not about one: such records are refused.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import io
import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64
from pydantic import Field

from lightgen.corpora import places
from lightgen.corpora.base import Corpus
from lightgen.corpora.columns import (
    BETWEEN,
    NOT_UTF8,
    REFUSED,
    UNICODE,
    Batch,
    as_bytes,
    holding,
    is_list,
    is_text,
    no_utf8,
    plain_type,
    python_values,
    refusal,
)
from lightgen.corpora.fields import Found, captions_of, value_of
from lightgen.corpora.json_document import JsonDocument
from lightgen.corpora.jsonl import AtOnce, JsonLines, mask_of, refusals
from lightgen.corpora.lines import COMPRESSED
from lightgen.corpora.parquet import ParquetColumn
from lightgen.corpora.parquet_limits import ENCRYPTED
from lightgen.corpora.plain_bytes import plain_bytes
from lightgen.corpora.ranges import payload
from lightgen.corpora.raw import MALFORMED, NOT_TEXT, binary

LOOKED_AT_BYTES = 64
NO_IMAGE = "record_without_image"
IMAGES = ("image", "images", "image_path")
MARK = b"<image"  # in what the human says, at its start or end; newer sets count them: <image_1>
SAID = (("from", "role"), ("value", "content"))
NO_TURNS = NOT_TEXT, "no turns in it"
NO_ANSWER = NOT_TEXT, "no turn is an answer"
NOT_SEEN = NO_IMAGE, "no image, and no mark of one in what is asked"
ANSWERS = {"gpt", "assistant", "model"}
ANSWERING = binary([name.encode() for name in sorted(ANSWERS)])
ANSWERS_BYTES = set(ANSWERING.to_pylist())


class ConversationsCorpus(JsonDocument):
    """Files of conversations; how each is written is told from its first bytes."""

    ENDINGS: ClassVar[tuple[str, ...]] = (
        *(f"{name}{packed}" for name in (".json", ".jsonl") for packed in COMPRESSED), ".parquet",
    )  # fmt: skip
    REVISION: ClassVar[int] = 2
    kind: Literal["conversations"] = "conversations"
    field: str = Field(default="conversations", description="that of the turns")

    def files(self) -> list[Any]:
        """See `Corpus.files`; each of the class that reads its form."""
        return [self._of_form(file.path) for file in super().files()]

    def _of_form(self, path: str) -> Corpus:
        with places.seekable(path) as file:
            stream = plain_bytes(io.BufferedReader(file), path, self.encoding)  # pyright: ignore[reportArgumentType]
            head = stream.read(LOOKED_AT_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
        shared: dict[str, Any] = {"path": path} | {name: getattr(self, name) for name in ("source", "licence", "limit")}
        if head.startswith((b"PAR1", ENCRYPTED)):
            return ConversationTable(column=self.field, **shared)
        if head.startswith(b"{"):
            return ConversationLines(field=self.field, encoding=self.encoding, **shared)
        return self.model_copy(update={"path": path})

    def record_of(self, row: int, caption: str | None) -> dict[str, Any]:
        """See `JsonDocument.record_of`."""
        turns = [
            {"from": "human", "value": f"{MARK.decode()}>\nSay what is to be seen."},
            {"from": "gpt", "value": caption},
        ]
        return {"id": f"{row:09d}", "image": f"{row:09d}.jpg", self.field: turns}

    def at_once(self, records: Sequence[Any]) -> AtOnce | None:
        """See `JsonRecords.at_once`."""
        return answers_in_records(records, self.field)

    def found_in(self, record: Any) -> Found:
        """See `JsonRecords.found_in`."""
        return answer_in(record, self.field)


class ConversationLines(JsonLines):
    """The same as JSON lines."""

    def at_once(self, records: Sequence[Any]) -> AtOnce | None:
        """See `JsonRecords.at_once`."""
        return answers_in_records(records, self.field)

    def found_in(self, record: Any) -> Found:
        """See `JsonRecords.found_in`."""
        return answer_in(record, self.field)


class ConversationTable(ParquetColumn):
    """The same as Parquet: a column of lists of turns."""

    def reads(self, kind: pa.DataType) -> bool:
        """See `ColumnCorpus.reads`."""
        return is_list(kind) or pa.types.is_struct(kind)

    def few(self, kind: pa.DataType) -> list[str]:
        """See `ParquetColumn.few`: who speaks."""
        turn = kind.value_type if is_list(kind) else kind  # an object of lists has no texts
        texts = [field.name for field in turn.fields if field.type in UNICODE] if pa.types.is_struct(turn) else []
        return [name for name in SAID[0] if name in texts]

    def at_once(self, column: pa.Array, first: int) -> Batch | None:
        """See `ColumnCorpus.at_once`."""
        found = answers_in(column)
        if found is None:
            return None
        texts, refused = found[0], refusals(found[1])
        if refused:
            texts = pc.if_else(mask_of(refused, len(texts)), pa.scalar(b"", pa.large_binary()), texts)
        return texts, np.arange(first, first + len(texts)), None, refused

    def values(self, column: pa.Array) -> pa.LargeBinaryArray:
        """See `ColumnCorpus.values`: all turns at once, where each is a struct of texts."""
        found = answers_in(column)
        if found is None:
            return super().values(column)
        values, lost = found
        for at, why in lost:
            values = pc.if_else(pa.array(at), pa.scalar(refusal(why), pa.large_binary()), values)
        return values

    def found_in(self, values: pa.Array) -> list[Found]:
        """See `ColumnCorpus.found_in`; whether there is an image is told by the marks, so that no picture is read."""
        return [answer_in({self.column: value}, self.column) for value in python_values(values)]


def answer_in(record: Any, field: str) -> Found:
    """The first answer in a record that has an image, or why there is none."""
    if not isinstance(record, dict):
        return MALFORMED, f"{type(record).__name__}, not an object"
    turns = [_turn(turn) for turn in _turns(value_of(record, field)[1])]
    if not turns:
        return NO_TURNS
    if not any(record.get(name) for name in IMAGES) and not any(
        isinstance(said, str) and MARK.decode() in said for _, said in turns
    ):
        return NOT_SEEN
    answers = [said for speaker, said in turns if speaker in ANSWERS]
    return captions_of(answers[0]) if answers else NO_ANSWER


def answers_in(column: pa.Array) -> AtOnce | None:
    """What `answer_in` says of each row of lists of turns; None for turns of another form."""
    turn = column.type.value_type if is_list(column.type) else pa.null()
    names = [field.name for field in turn.fields] if pa.types.is_struct(turn) else []
    if sorted(names) not in (["from", "value"], ["content", "role"]) or not all(
        is_text(plain_type(one.type)) for one in turn.fields
    ):
        return None
    flat, rows = column.flatten(), pc.list_parent_indices(column).to_numpy()
    who, said = (pc.struct_field(flat, one[0] if one[0] in names else one[1]) for one in SAID)
    values, lost = _first_answers(who, as_bytes(said), rows, np.zeros(len(column), bool))
    if no_utf8(values):
        odd = np.zeros(len(values), bool)
        odd[np.append(holding(values, BETWEEN), holding(values, REFUSED))] = True
        lost = [(odd, NOT_UTF8), *lost]
    return values, lost


def answers_in_records(records: Sequence[Any], field: str) -> AtOnce | None:
    """The same of records, where each has a list of turns and each turn a speaker and a text; else None."""
    try:
        turns = [record[field] for record in records]
        flat = list(itertools.chain.from_iterable(turns))
        names = next((one for one in zip(*SAID, strict=True) if flat and one[0] in flat[0]), None)
        if names is None or not all(type(one) is list for one in turns):
            return None
        who, said = (pa.array([turn[name] for turn in flat], pa.large_string()) for name in names)
    except (KeyError, TypeError, UnicodeError, pa.ArrowException):
        return None
    rows = np.repeat(np.arange(len(turns)), [len(one) for one in turns])
    seen = [any(map(record.get, IMAGES)) for record in records]
    return _first_answers(who, said.cast(pa.large_binary()), rows, np.asarray(seen, bool))


def _first_answers(who: pa.Array, said: pa.LargeBinaryArray, rows: np.ndarray, seen: np.ndarray) -> AtOnce:
    """The first answer of each row, and in which rows there is none, with reasons of which the last counts.

    `rows` says whose the turns are, and `seen` which rows have an image beside them.
    """
    first = answers = _answers(who)
    if not np.array_equal(rows[answers], np.arange(len(seen))):  # else each has one
        first = np.full(len(seen), -1)
        first[rows[answers][::-1]] = answers[::-1]
    if not seen.all():
        seen[rows[_true(pc.starts_with(said, MARK))]] = True
    if not seen.all():
        seen[rows[holding(said, MARK)]] = True
    if seen.all() and (first >= 0).all():
        return said.take(pa.array(first)), []
    values = said.take(pa.array(first, mask=first < 0))
    silent = np.ones(len(seen), bool)
    silent[rows] = False
    return values, [(first < 0, NO_ANSWER), (~seen, NOT_SEEN), (silent, NO_TURNS)]


def _answers(who: pa.Array) -> Int64[np.ndarray, " m"]:
    """At which turns the speaker is the model, in any case. What is no ASCII is none of its names."""
    if pa.types.is_dictionary(who.type):
        of_model = [(name or b"").lower() in ANSWERS_BYTES for name in as_bytes(who.dictionary).to_pylist()]
        places = who.indices.fill_null(len(of_model)) if who.null_count else who.indices
        return np.flatnonzero(np.array([*of_model, False])[places.to_numpy()])
    names = as_bytes(who)
    if not _is_lower(names):
        names = as_bytes(pc.ascii_lower(names.view(pa.large_string())))
    return _true(pc.is_in(names, ANSWERING))


def _true(flags: pa.BooleanArray) -> Int64[np.ndarray, " m"]:
    """Places of those that are true; a null is not."""
    return pc.indices_nonzero(flags).to_numpy().view(np.int64)


def _is_lower(names: pa.LargeBinaryArray) -> bool:
    signs = payload(names)
    return not len(signs) or (int(signs.min()) >= ord("a") and int(signs.max()) <= ord("z"))


def _turns(value: Any) -> list[Any]:
    """Turns as a list of objects; some readers of Parquet make an object of lists of them."""
    if isinstance(value, dict):
        keys = list(value)
        return [dict(zip(keys, parts, strict=False)) for parts in zip(*value.values(), strict=False)]
    return value if isinstance(value, list) else []


def _turn(turn: Any) -> tuple[str, Any]:
    """Who speaks, and what is said."""
    if not isinstance(turn, dict):
        return "", None
    return str(turn.get("from", turn.get("role"))).lower(), turn.get("value", turn.get("content"))
