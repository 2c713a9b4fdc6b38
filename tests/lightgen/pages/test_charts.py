"""Charts: ticks are round and inside, points land where the numbers say, names are escaped."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from lightgen.pages.charts import HEIGHT, WIDTH, Curve, Whisker, line_chart, ticks, whisker_chart


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.03, 0.021), (12, 4000), (0.28, 0.33), (5, 5)])
def test_ticks_are_few_round_and_inside(low, high):
    marks = ticks(low, high)
    assert 1 <= len(marks) <= 8
    assert all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)
    assert all(len(f"{mark:g}") <= 7 for mark in marks)


def points(markup, tone):
    (text,) = re.findall(rf'class="{tone}" points="([^"]+)"', markup)
    return [tuple(float(number) for number in point.split(",")) for point in text.split()]


def test_a_falling_curve_falls_on_paper_and_stays_in_the_frame():
    markup = line_chart("loss", [Curve("loss", [(step, 10 / (step + 1)) for step in range(50)])])
    ElementTree.fromstring(str(markup))
    drawn = points(markup, "raw c0")
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert [y for _, y in drawn] == sorted(y for _, y in drawn), "lower values lie lower, so y grows"
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn)


def test_values_that_are_no_numbers_are_left_out():
    markup = line_chart("loss", [Curve("loss", [(0, 1.0), (1, float("nan")), (2, float("inf")), (3, 0.5)])])
    assert len(points(markup, "raw c0")) == 2
    assert "nan" not in markup
    assert "inf" not in markup
    assert line_chart("loss", [Curve("loss", [])]) == ""


def test_a_whisker_is_filled_only_where_zero_is_outside():
    rows = [Whisker("sure", 0.1, 0.02, 0.2), Whisker("open", 0.1, -0.02, 0.2)]
    markup = whisker_chart("difference", rows, reach=0.2)
    assert len(re.findall(r'<circle class="c0 sure"', markup)) == 1
    assert len(re.findall(r'<circle class="c0"', markup)) == 1


def test_names_cannot_become_markup():
    evil = '<script>alert(1)</script>"'
    charts = whisker_chart(evil, [Whisker(evil, 0, -1, 1)], 1.0) + line_chart(evil, [Curve(evil, [(0, 1)])] * 2)
    assert "<script" not in charts
    assert 'aria-label="&lt;script' in charts


def test_a_curve_of_one_point_is_a_dot():
    figure = line_chart("novelty", [Curve("all", [(1, 0.5)])])
    assert "<circle" in figure
    assert "<polyline" not in figure
