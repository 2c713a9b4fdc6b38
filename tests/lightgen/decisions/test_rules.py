"""Rules against a plain loop, missing scores with their reason, and ends of ranges in the type of the column."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lightgen.decisions.rules import KEPT, Rule, Yield, apply_rules, yield_table
from lightgen.errors import ConfigError

SCORES = pa.table(
    {
        "id": ["a", "b", "c", "d", "e"],
        "pixels.width": pa.array([64, 16, 64, None, 64], pa.int32()),
        "pixels.contrast": pa.array([0.3, 0.3, 0.0042, None, math.nan], pa.float32()),
        "pixels.unscored": ["", "", "", "truncated", ""],
        "judge.right": pa.array([True, False, True, None, True]),
        "judge.unscored": pa.array(["", "", "", None, ""]),
    }
)
RULES = (
    Rule(column="pixels.width", least=32, reason="too_small"),
    Rule(column="pixels.contrast", least=0.01, most=0.5),
)


def loop(columns: pa.Table, rules: tuple[Rule, ...]) -> list[int]:
    """The definition, row by row."""

    def breaks(row: dict, rule: Rule) -> bool:
        value = row[rule.column]
        if value is None or value != value:
            return True
        return not (rule.least is None or value >= rule.least) or not (rule.most is None or value <= rule.most)

    return [
        next((number for number, rule in enumerate(rules) if breaks(row, rule)), KEPT) for row in columns.to_pylist()
    ]


def test_a_row_is_refused_by_the_first_rule_it_breaks_with_the_value() -> None:
    verdicts = apply_rules(SCORES, RULES)
    assert verdicts.rule.tolist() == [KEPT, 0, 1, 0, 1]
    assert verdicts.reason.to_pylist() == ["", "too_small", "odd_pixels_contrast", "truncated", "odd_pixels_contrast"]
    assert verdicts.detail.to_pylist() == [
        "",
        "pixels.width 16 < 32",
        "pixels.contrast 0.0042 < 0.01",
        "pixels.width is missing",
        "pixels.contrast nan is not a number",
    ]
    high = apply_rules(SCORES, [Rule(column="pixels.contrast", most=0.1)])
    assert high.detail.to_pylist()[:3] == ["pixels.contrast 0.3 > 0.1", "pixels.contrast 0.3 > 0.1", ""]


def test_booleans_count_as_0_and_1_and_a_missing_score_without_a_reason_is_unscored() -> None:
    verdicts = apply_rules(SCORES, [Rule(column="judge.right", least=1)])
    assert verdicts.reason.to_pylist() == ["", "low_judge_right", "", "unscored", ""]
    bare = apply_rules(SCORES.drop_columns("judge.unscored"), [Rule(column="judge.right", most=1)])
    assert bare.reason.to_pylist() == ["", "", "", "unscored", ""]


@settings(max_examples=150)
@given(
    rows=st.lists(
        st.tuples(st.one_of(st.none(), st.just(math.nan), st.floats(-2, 2)), st.one_of(st.none(), st.integers(-3, 3))),
        max_size=30,
    ),
    ends=st.lists(
        st.tuples(st.sampled_from("xn"), st.one_of(st.none(), st.floats(-2, 2)), st.floats(0, 2)), max_size=4
    ),
)
def test_rules_are_the_plain_loop(rows: list, ends: list) -> None:
    columns = pa.table(
        {"x": pa.array([x for x, _ in rows], pa.float64()), "n": pa.array([n for _, n in rows], pa.int8())}
    )
    rules = tuple(
        Rule(column=name, least=least, most=2 if least is None else least + most) for name, least, most in ends
    )
    verdicts = apply_rules(columns, rules)
    assert verdicts.rule.tolist() == loop(columns, rules)
    refused = [bool(reason) for reason in verdicts.reason.to_pylist()]
    assert refused == [bool(detail) for detail in verdicts.detail.to_pylist()] == (verdicts.rule != KEPT).tolist()
    steps = yield_table(rules, verdicts)
    assert [step.before - step.after for step in steps] == [(verdicts.rule == at).sum() for at in range(len(rules))]


def test_the_end_of_a_range_is_compared_in_the_type_of_the_column() -> None:
    narrow = pa.table({"x": pa.array([0.7, 0.69], pa.float32())})
    assert apply_rules(narrow, [Rule(column="x", least=0.7)]).rule.tolist() == [KEPT, 0]
    assert apply_rules(narrow, [Rule(column="x", most=1e300)]).rule.tolist() == [KEPT, KEPT]
    half = pa.table({"x": pa.array(np.array([0.7, 0.6], np.float16))})
    assert apply_rules(half, [Rule(column="x", least=0.65)]).rule.tolist() == [KEPT, 0]
    large = pa.table({"x": pa.array([2**64 - 1, 3], pa.uint64())})
    assert apply_rules(large, [Rule(column="x", most=3)]).rule.tolist() == [0, KEPT]


def test_the_yield_of_each_rule_is_counted_in_order() -> None:
    assert yield_table(RULES, apply_rules(SCORES, RULES)) == [
        Yield("too_small", 5, 3),
        Yield("odd_pixels_contrast", 3, 1),
    ]
    assert yield_table([], apply_rules(SCORES, [])) == []


def test_an_unknown_column_is_refused_with_the_columns_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'pixels.contrats'; did you mean 'pixels.contrast'\? they have id, pixels"):
        apply_rules(SCORES, [Rule(column="pixels.contrats", least=0)])
    with pytest.raises(ConfigError, match=r"did you mean 'pixels.contrast'\?"):
        apply_rules(SCORES, [Rule(column="contrast", least=0)])
    with pytest.raises(ConfigError, match=r"'zebra'; they have id, pixels.width, pixels.contrast, judge.right$"):
        apply_rules(SCORES, [Rule(column="zebra", least=0)])
    with pytest.raises(ConfigError, match="'id' holds string; a rule compares numbers"):
        apply_rules(SCORES, [Rule(column="id", least=0)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "x"}, "needs `least` or `most`"),
        ({"column": "x", "least": 2, "most": 1}, "lets nothing pass"),
        ({"column": "x", "least": 2, "reason": "Too small"}, "pattern"),
        ({"column": "x", "least": math.nan}, "finite"),
        ({"column": "x", "at_least": 2}, "at_least"),
        ({"least": 2}, "column"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rule.model_validate(settings)


def test_the_reason_of_a_rule_follows_from_its_column_and_survives_the_recipe() -> None:
    reasons = [Rule(column="a.B c", least=0), Rule(column="a.b", most=0), Rule(column="a", least=0, most=1)]
    assert [rule.reason for rule in reasons] == ["low_a_b_c", "high_a_b", "odd_a"]
    assert all(Rule.model_validate(rule.model_dump()) == rule for rule in reasons)
    assert "reason" in Rule.model_json_schema()["properties"]
