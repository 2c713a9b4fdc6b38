"""Columns of lists and of turns: all rows at once give what they give one by one."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lightgen.corpora.columns import batch_of, encoded, joined
from lightgen.corpora.conversations import answer_in, answers_in
from lightgen.corpora.fields import captions_of, gathered

TURNS = [{"from": "human", "value": "<image>\nSay what is shown."}, {"from": "gpt", "value": "a red kite over a pier"}]
ODD_TURNS: list[Any] = [
    TURNS, None, [], TURNS[1:], TURNS[:1], [TURNS[0], {"from": "GPT", "value": None}], [None, *TURNS], TURNS + TURNS,
    [{"from": None, "value": "<image>"}, TURNS[1]], [TURNS[1], {"from": "human", "value": "<image_1> more?"}],
]  # fmt: skip


def test_turns_are_read_all_at_once_as_they_are_one_by_one() -> None:
    for rows in (ODD_TURNS, ODD_TURNS[::-1]):
        column = pa.array([None, *rows], pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())])))
        for part in (column, column[3:], column[:1]):
            one_by_one = encoded([answer_in({"turns": value}, "turns") for value in part.to_pylist()])
            at_once = answers_in(part)
            assert at_once is not None
            assert at_once.to_pylist() == one_by_one.to_pylist()


LISTS: list[Any] = [["a", None, "b"], [], None, [None], [""], ["c", ""], ["d"] * 3]


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.binary())])
def test_lists_of_texts_are_read_all_at_once_as_they_are_one_by_one(kind: pa.DataType) -> None:
    """Their values are those of `captions_of`, and so are texts, rows, parts and refusals of a batch of such values."""
    column = pa.array(LISTS if kind.value_type != pa.binary() else [[b"x"], None], kind)
    for part in (column, column[1:], column[:0]):
        one_by_one = [captions_of(value) for value in part.to_pylist()]
        at_once = joined(part) if kind.value_type != pa.binary() else None
        values = encoded(one_by_one)
        assert at_once is None or at_once.equals(values)
        given, (texts, rows, parts, refused) = (
            gathered(one_by_one, np.arange(7, 7 + len(part)), lambda _: b""),
            (batch_of(values, 7, False)),
        )
        assert texts.equals(given[0])
        assert rows.tolist() == given[1].tolist()
        assert (np.zeros(len(texts)) if parts is None else parts).tolist() == given[2].tolist()
        assert refused == given[3]


def test_a_long_or_odd_list_is_told_one_by_one() -> None:
    kind = pa.list_(pa.string())
    assert joined(pa.array([["a"] * 5000], kind)) is None
    odd = pa.array([[b"\xff"]], pa.list_(pa.binary())).view(kind)
    assert joined(odd) is None
