"""The bench of tar writers: an equal share of first places, and ratios of the same round."""

import pytest

from lightgen.bench import shards
from lightgen.bench.machine import machine
from lightgen.bench.shards import OURS, tar_rates


def test_each_writer_is_first_as_often_as_last(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    writers = {name: lambda path, name=name: order.append(name) for name in ("a", "b")}
    seconds = shards._measure(writers, 4)
    assert order == ["b", "a", *["a", "b", "b", "a"] * 2]
    assert [len(took) for took in seconds.values()] == [4, 4]


def test_ratios_are_of_the_same_round() -> None:
    assert shards._spread([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == (2.0, 3.0, 4.0)


def test_all_writers_write_the_same_samples() -> None:
    rates = tar_rates(20, rounds=2)
    assert rates[0].name == OURS
    assert rates[0].ratios == (1.0, 1.0, 1.0)
    assert all(rate.rows_per_s > 0 and rate.ratios[0] <= rate.ratios[1] <= rate.ratios[2] for rate in rates)
    assert "cores" in machine()
