"""Best of N: the best images of each prompt stay, whatever the order of the table, and each loser knows its winner."""

import random

import numpy as np
import pyarrow as pa
import pytest

from lightgen.decisions.best_of import Best
from lightgen.decisions.filtering import decide
from lightgen.decisions.rules import Rule
from lightgen.errors import ConfigError

ROW = pa.schema(
    [
        ("id", pa.string()),
        ("prompt_id", pa.string()),
        ("caption", pa.string()),
        ("judge.mean", pa.float64()),
        ("judge.unscored", pa.string()),
    ]
)


def table(rows: list[tuple[str, str, float | None]]) -> pa.Table:
    whole = [
        (id, prompt, f"caption of {prompt}", mean, "" if mean is not None else "no_answer") for id, prompt, mean in rows
    ]
    return pa.Table.from_pylist([dict(zip(ROW.names, row, strict=True)) for row in whole], schema=ROW)


def kept(rows: list[tuple[str, str, float | None]], **rule: object) -> set[str]:
    decision = decide(table(rows), [], [], [Best(column="judge.mean", **rule)])
    return {row[0] for row, stays in zip(rows, decision.kept, strict=True) if stays}


def brute(rows: list[tuple[str, str, float]], of: int | None, keep: int) -> set[str]:
    """The rule in plain loops."""
    winners: set[str] = set()
    for prompt in {row[1] for row in rows}:
        group = sorted(row for row in rows if row[1] == prompt)[:of]
        winners |= {row[0] for row in sorted(group, key=lambda row: (-row[2], row[0]))[:keep]}
    return winners


@pytest.mark.parametrize("of", [None, 1, 3, 8])
@pytest.mark.parametrize("keep", [1, 2])
def test_the_rule_is_that_of_plain_loops(of, keep):
    if of is not None and keep > of:
        pytest.skip("keeps more than compete")
    for seed in range(30):
        chance = random.Random(seed)
        rows = [(f"{chance.random():.6f}", f"p{chance.randrange(6)}", float(chance.randrange(4))) for _ in range(40)]
        assert kept(rows, of=of, keep=keep) == brute(rows, of, keep)
        chance.shuffle(rows)
        assert kept(rows, of=of, keep=keep) == brute(rows, of, keep), "the order of the table changes nothing"


def test_equal_images_are_told_apart_by_the_smallest_id():
    assert kept([("b", "p", 1.0), ("a", "p", 1.0), ("c", "p", 1.0)]) == {"a"}


def test_losers_are_refused_by_name_of_the_winner():
    rows = [("a", "p", 0.25), ("b", "p", 0.75), ("c", "q", 0.5), ("d", "p", 0.9)]
    decision = decide(table(rows), [], [], [Best(column="judge.mean", of=2)])
    assert decision.reason.to_pylist() == ["not_best", "", "", "not_best"]
    assert decision.detail[0].as_py() == "judge.mean 0.25 against 0.75 of b"
    assert decision.detail[3].as_py() == "not among the first 2 of its prompt_id, of which b is best"
    assert [(one.step, one.before, one.after) for one in decision.yields] == [("not_best", 4, 2)]


def test_an_image_with_a_fault_does_not_compete():
    rows = [("a", "p", 0.9), ("b", "p", 0.5), ("c", "p", 0.4)]
    decision = decide(table(rows), [Rule(column="judge.mean", most=0.8)], [], [Best(column="judge.mean")])
    assert decision.reason.to_pylist() == ["high_judge_mean", "", "not_best"]


def test_an_image_without_a_value_is_refused_as_unscored():
    rows = [("a", "p", None), ("b", "p", 0.1), ("c", "q", float("nan"))]
    decision = decide(table(rows), [], [], [Best(column="judge.mean")])
    assert decision.kept.tolist() == [False, True, False]
    assert decision.reason.to_pylist() == ["no_answer", "", "unscored"]


def test_the_best_of_a_column_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"did you mean 'judge\.mean'"):
        decide(table([("a", "p", 1.0)]), [], [], [Best(column="judge.men")])


def test_keeping_more_than_compete_is_refused():
    with pytest.raises(ValueError, match="keeps 3 of 2"):
        Best(column="x", of=2, keep=3)


def test_an_empty_table_has_no_winners():
    decision = decide(table([]), [], [], [Best(column="judge.mean", of=2)])
    assert decision.kept.tolist() == []
    assert np.array_equal(decision.twin, np.array([], np.int64))
