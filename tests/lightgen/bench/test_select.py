"""Benchmarks of select in their small forms: they run, and what they print is what they measured."""

import math

import numpy as np
import pytest

from lightgen.bench.captions import BLOCK, real_shaped
from lightgen.bench.choice import DENSE, OURS, choice_costs, dense_k_center
from lightgen.bench.selection import SelectCost, Spent, growth, select_costs


def test_captions_are_shaped_as_real_ones() -> None:
    texts = real_shaped(BLOCK).to_pylist()
    words = sorted(len(text.split()) for text in texts)
    assert 7 < words[BLOCK // 2] < 14
    assert words[BLOCK * 95 // 100] > 30
    assert 0.02 < 1 - len(set(texts)) / BLOCK < 0.2
    assert real_shaped(500).to_pylist() == texts[:500]


def test_growth_is_the_exponent_of_processor_time() -> None:
    costs = [SelectCost(rows, 1, Spent(9.0, rows**1.5), Spent(9.0, rows**1.5), 0.0, 0.0) for rows in (100, 1000)]
    assert math.isclose(growth(costs), 1.5)


def test_both_stages_are_measured_with_their_workers() -> None:
    """Workers have processor time and memory of their own, which a real run spends too."""
    (alone,), (mapped,) = select_costs([400], 200), select_costs([400], 200, workers=2)
    assert (alone.rows, alone.chosen, alone.worker_gb) == (400, 80, 0.0)
    assert mapped.chosen == alone.chosen
    assert mapped.worker_gb > 0.05
    assert all(one.wall_s > 0 and one.cpu_s > 0 for cost in (alone, mapped) for one in (cost.source, cost.select))
    assert mapped.source.cpu_s > alone.source.cpu_s


def test_rules_of_choice_are_laid_beside_each_other() -> None:
    costs = {cost.name: cost for cost in choice_costs(1500)}
    assert list(costs) == [OURS, "parts", "k_center", DENSE, "by lot"]
    assert costs[OURS].ratios == (1, 1, 1)
    assert costs[DENSE].farthest <= costs["by lot"].farthest
    assert all(0 < cost.mean < cost.farthest <= 1.1 for cost in costs.values())


def test_the_baseline_takes_the_farthest_each_time() -> None:
    x = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    chosen = dense_k_center(x, 40)
    assert len(set(chosen.tolist())) == 40
    for place in range(1, 40):
        near = (x @ x[chosen[:place]].T).max(axis=1)
        assert near[chosen[place]] == pytest.approx(near.min(), abs=1e-6)
    assert sorted(dense_k_center(x[:9], 9).tolist()) == list(range(9))
