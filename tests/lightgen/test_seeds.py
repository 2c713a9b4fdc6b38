"""Ids by the column against ids one by one."""

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lightgen.seeds import content_id, content_ids, hex_texts, sha256_of_each

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.sampled_from(['"', "\\", '\\"', "\n", "\x1f", "\x7f", "a b", "\u00e9", "\x00"])).map("".join),
)


@given(st.lists(TEXT))
def test_content_ids_of_a_column(texts: list[str]) -> None:
    column = pa.array(["before", *texts], pa.large_string())[1:]
    assert content_ids("caption", column).to_pylist() == [content_id("caption", text) for text in texts]


@given(st.lists(st.binary(), max_size=5))
def test_digests_of_a_column(values: list[bytes]) -> None:
    column = pa.array([b"before", *values], pa.large_binary())[1:]
    assert sha256_of_each(column) == [hashlib.sha256(value).digest() for value in values]


def test_bytes_as_digits() -> None:
    assert hex_texts(np.array([[0, 255], [16, 1]], np.uint8)).to_pylist() == ["00ff", "1001"]
    assert hex_texts(np.zeros((0, 2), np.uint8)).to_pylist() == []
