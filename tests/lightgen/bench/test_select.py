"""Benchmarks of select in their small forms: they run, and what they print is what they measured."""

import math

from lightgen.bench.captions import BLOCK, real_shaped
from lightgen.bench.choice import OURS, choice_costs
from lightgen.bench.selection import SelectCost, growth


def test_captions_are_shaped_as_real_ones() -> None:
    texts = real_shaped(BLOCK).to_pylist()
    words = sorted(len(text.split()) for text in texts)
    assert 7 < words[BLOCK // 2] < 14
    assert words[BLOCK * 95 // 100] > 30
    assert 0.02 < 1 - len(set(texts)) / BLOCK < 0.2
    assert real_shaped(500).to_pylist() == texts[:500]


def test_growth_is_the_exponent_of_time() -> None:
    costs = [SelectCost(rows, 1, rows**1.5, rows**1.5, 0.0) for rows in (100, 1000)]
    assert math.isclose(growth(costs), 1.5)


def test_rules_of_choice_are_laid_beside_each_other() -> None:
    costs = {cost.name: cost for cost in choice_costs(1500)}
    assert list(costs) == [OURS, "parts", "k_center", "k_center over dense vectors", "by lot"]
    assert costs[OURS].ratios == (1, 1, 1)
    assert costs["k_center over dense vectors"].farthest <= costs["by lot"].farthest
    assert all(0 < cost.mean < cost.farthest <= 1.1 for cost in costs.values())
