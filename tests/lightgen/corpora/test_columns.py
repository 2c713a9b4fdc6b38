"""Columns of lists and of turns: all rows at once give what they give one by one."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lightgen.corpora.columns import Batch, as_bytes, batch_of, batch_of_column, encoded, joined, lists_of_texts
from lightgen.corpora.conversations import ConversationTable, answer_in
from lightgen.corpora.fields import captions_of, gathered

TURNS = [{"from": "human", "value": "<image>\nSay what is shown."}, {"from": "gpt", "value": "a red kite over a pier"}]
ODD_TURNS: list[Any] = [
    TURNS, None, [], TURNS[1:], TURNS[:1], [TURNS[0], {"from": "GPT", "value": None}], [None, *TURNS], TURNS + TURNS,
    [{"from": None, "value": "<image>"}, TURNS[1]], [TURNS[1], {"from": "human", "value": "<image_1> more?"}],
]  # fmt: skip


@pytest.mark.parametrize("speaker", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_turns_are_read_all_at_once_as_they_are_one_by_one(speaker: pa.DataType) -> None:
    """So are the values of rows, and the batch that is made without them."""
    table = ConversationTable(path="a.parquet", source="test", column="turns")
    for rows in (ODD_TURNS, ODD_TURNS[::-1], [TURNS] * 3):
        column = pa.array([None, *rows], pa.list_(pa.struct([("from", speaker), ("value", pa.string())])))
        for part in (column, column[3:], column[:1], column[1:], column[:0]):
            one_by_one = encoded([answer_in({"turns": value}, "turns") for value in part.to_pylist()])
            at_once = table.at_once(part, 5)
            assert at_once is not None
            assert table.values(part).to_pylist() == one_by_one.to_pylist()
            assert listed(at_once) == listed(batch_of(one_by_one, 5, False))


def test_turns_that_are_no_text_are_not_read_all_at_once() -> None:
    table = ConversationTable(path="a.parquet", source="test", column="turns")
    for turns in ([[{"from": "gpt", "value": 1}]], [["a red kite"]], [[{"from": "gpt", "said": "a red kite"}]]):
        assert table.at_once(pa.array(turns), 0) is None


def listed(batch: Batch) -> list[Any]:
    """Texts, rows, parts and refusals, by value."""
    texts, rows, parts, refused = batch
    return [texts.to_pylist(), rows.tolist(), (np.zeros(len(texts)) if parts is None else parts).tolist(), refused]


LISTS: list[Any] = [["a", None, "b"], [], None, [None], [""], ["c", ""], ["d"] * 3]


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("listed_as", [pa.list_, pa.large_list])
def test_lists_of_texts_are_read_all_at_once_as_they_are_one_by_one(text: pa.DataType, listed_as: Any) -> None:
    """Their values are those of `captions_of`, and so are texts, rows, parts and refusals of a batch of such values."""
    plain = pa.array(LISTS, listed_as(pa.string()))
    column = plain.cast(listed_as(text))
    for at in (slice(None), slice(1, None), slice(0)):
        part, one_by_one = column[at], [captions_of(value) for value in plain[at].to_pylist()]
        assert lists_of_texts(part) == one_by_one
        at_once, values = joined(part), encoded(one_by_one)
        assert at_once is not None
        assert at_once.equals(values)
        given = listed(gathered(one_by_one, np.arange(7, 7 + len(part)), lambda _: b""))
        assert listed(batch_of(values, 7, False)) == given
        unjoined = batch_of_column(part, 7)
        assert unjoined is not None
        assert listed(unjoined) == given


def test_a_long_or_odd_list_is_told_one_by_one() -> None:
    kind = pa.list_(pa.string())
    assert joined(pa.array([["a"] * 5000], kind)) is None
    odd = pa.array([[b"\xff"]], pa.list_(pa.binary())).view(kind)
    assert joined(odd) is None
    assert batch_of_column(odd, 0) is None


def test_texts_go_into_a_batch_as_they_are() -> None:
    for kind in (pa.string(), pa.large_string()):
        column = pa.array(["a", None, "caf\u00e9", ""], kind)
        for part in (column, column[1:], column[:0]):
            values = as_bytes(part)
            assert values.type == pa.large_binary()
            assert values.to_pylist() == part.cast(pa.binary()).to_pylist()
            at_once = batch_of_column(part, 7)
            assert (at_once is None) is (kind != pa.string())
            assert at_once is None or listed(at_once) == listed(batch_of(values, 7, True))
