"""The sample by lot: the same whatever the order, each distinct text as likely, and a count of the distinct ones."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from lightgen.corpora.by_lot import drawn

TEXTS = [f"caption {number} of many".encode() for number in range(5000)]


def batches(texts: Sequence[bytes | None], rows: int = 300) -> list[pa.LargeBinaryArray]:
    return [pa.array(texts[at : at + rows], pa.large_binary()) for at in range(0, len(texts), rows)]


def test_order_batches_and_repeats_change_no_sample() -> None:
    found = drawn(batches(TEXTS), 400, seed=3)
    again = [TEXTS[at] for at in np.random.default_rng(0).permutation(np.arange(15_000) % 5000)]
    for texts, rows in ((TEXTS[::-1], 300), (TEXTS, 7), (again, 1000), ([None, *again, None], 64)):
        other = drawn(batches(texts, rows), 400, seed=3)
        assert other.texts.equals(found.texts)
        assert other.distinct == min(5549, other.read), "as many as the same hashes tell"
    assert len(set(found.texts.to_pylist())) == 400
    assert drawn(batches(again), 400, seed=3).read == 15_000
    assert not drawn(batches(TEXTS), 400, seed=4).texts.equals(found.texts)


def test_fewer_texts_than_asked_for_come_whole() -> None:
    found = drawn(batches(TEXTS + TEXTS[:100]), 5000, seed=0)
    assert (len(found.texts), found.read, found.distinct, found.exact) == (5000, 5100, 5000, True)
    nothing = drawn([], 10, seed=0)
    assert (len(nothing.texts), nothing.read, nothing.distinct, nothing.exact) == (0, 0, 0, True)


def test_how_many_are_distinct_is_estimated_within_its_error() -> None:
    estimates = [drawn(batches(TEXTS * 3), 500, seed).distinct for seed in range(20)]
    assert np.mean(estimates) == pytest.approx(5000, rel=3 / np.sqrt(500 * 20))
    assert np.std(estimates) < 2 * 5000 / np.sqrt(500)
    assert not any(drawn(batches(TEXTS * 3), 500, seed).exact for seed in range(3))


def squares(samples: list[list[bytes]]) -> float:
    """Chi-square of how often texts of each tenth are drawn, 9 degrees of freedom."""
    place = {text: at * 10 // len(TEXTS) for at, text in enumerate(TEXTS)}
    counts = np.bincount([place[text] for sample in samples for text in sample], minlength=10)
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


def test_each_text_is_as_likely() -> None:
    assert squares([drawn(batches(TEXTS), 200, seed).texts.to_pylist() for seed in range(10)]) < 27.9  # 0.999
    assert squares([TEXTS[:200]] * 10) > 27.9, "the first would be seen to be no lot"
