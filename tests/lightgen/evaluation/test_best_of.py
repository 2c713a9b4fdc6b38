"""Curves of best-of-N: those of every subset counted by hand, flat for a scorer that knows nothing."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from lightgen.evaluation.best_of import best_of_curve, expected_best, weights


def over_subsets(images: list[tuple[float | None, float]], size: int) -> float:
    """The mean over all subsets, each looked at."""
    found = []
    for subset in combinations(range(len(images)), size):
        # of equal values the first; one without a value loses to all
        best = min(subset, key=lambda i: (np.inf if images[i][0] is None else -images[i][0], i))
        found.append(images[best][1])
    return float(np.mean(found))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_the_closed_form_is_the_mean_over_all_subsets(size):
    for seed in range(40):
        chance = np.random.default_rng(seed)
        values = [None if chance.random() < 0.15 else float(chance.integers(0, 4)) for _ in range(7)]
        images = [(value, float(chance.integers(0, 2))) for value in values]
        assert expected_best(images, size) == pytest.approx(over_subsets(images, size), abs=1e-12)


def test_the_weights_of_the_ranks_add_up_to_one():
    for n in (1, 4, 16, 64):
        for size in range(1, n + 1):
            assert weights(n, size).sum() == pytest.approx(1)


def judged(scorer: str, seed: int = 0) -> dict[str, dict[str, list[tuple[float | None, float]]]]:
    """240 prompts of two tasks with 16 images each, a third of them right."""
    chance = np.random.default_rng(seed)
    found: dict[str, dict[str, list[tuple[float | None, float]]]] = {}
    for task in ("colors", "counting"):
        for prompt in range(120):
            marks = chance.random(16) < chance.beta(1, 2)
            value = marks + chance.normal(0, 0.5, 16) if scorer == "knows" else chance.random(16)
            found.setdefault(task, {})[f"{task} {prompt}"] = list(zip(value.tolist(), map(float, marks), strict=True))
    return found


def test_a_scorer_that_knows_nothing_has_a_flat_curve_and_one_that_knows_climbs_to_below_the_oracle():
    nothing, knows = (best_of_curve(judged(scorer), 16) for scorer in ("nothing", "knows"))
    first = nothing[0]
    assert all(first.low <= point.mean <= first.high for point in nothing), "the null control"
    assert knows[0].mean < knows[-1].low
    assert all(later.mean >= point.mean for point, later in pairwise(knows))
    for curve in (nothing, knows):
        assert all(point.low <= point.mean <= point.high for point in curve)
        assert all(point.mean <= point.oracle + 1e-12 for point in curve)
        assert [point.n for point in curve] == list(range(1, 17))


def test_at_one_it_is_the_plain_score_and_the_oracle_is_any_right():
    given = judged("nothing")
    curve = best_of_curve(given, 16)
    plain = np.mean([np.mean([[m for _, m in images] for images in of.values()]) for of in given.values()])
    anyone = np.mean([np.mean([max(m for _, m in images) for images in of.values()]) for of in given.values()])
    assert curve[0].mean == curve[0].oracle == pytest.approx(plain)
    assert curve[-1].oracle == pytest.approx(anyone)


def test_the_best_of_more_than_were_drawn_is_refused():
    with pytest.raises(ValueError, match="best of 5: there are prompts with 4 images"):
        best_of_curve({"colors": {"p": [(1.0, 1.0)] * 4}}, 5)
