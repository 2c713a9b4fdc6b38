"""Figures of the report: means as GenEval takes them, pairs by prompt, and words that follow the intervals."""

import pytest
from scipy.stats import binomtest

from lightgen.evaluation.scoring import Bootstrap, compare, findings, model_scores
from lightgen.pages.report import headline
from schemas.report import Report

BOOTSTRAP = Bootstrap(resamples=500, seed=0)


def rows(marks):
    return [
        {"task": task, "prompt_id": prompt, "correct": bool(mark), "failed": ""}
        for task, prompts in marks.items()
        for prompt, samples in prompts.items()
        for mark in samples
    ]


def test_overall_is_the_unweighted_mean_of_the_tasks():
    few, many = {"p": [1, 1]}, {f"q{number}": [number % 4 == 0] for number in range(80)}
    scores = model_scores("m", None, rows({"colors": few, "counting": many}))
    assert scores.tasks["counting"].mean == pytest.approx(0.25)
    assert scores.overall.mean == pytest.approx((1 + 0.25) / 2)
    assert scores.tasks["counting"].low < 0.25 < scores.tasks["counting"].high
    assert scores.images == 82


def test_no_success_at_all_keeps_an_honest_upper_bound():
    scores = model_scores("m", None, rows({"colors": {f"p{number}": [0] for number in range(30)}}))
    exact = binomtest(0, 30).proportion_ci(0.95, method="exact")
    assert scores.tasks["colors"].low == 0
    assert scores.tasks["colors"].high == pytest.approx(exact.high)
    assert scores.overall.high == pytest.approx(exact.high)


def test_a_difference_is_paired_by_prompt():
    base = {f"p{number}": [number % 2] for number in range(60)}
    better = {prompt: [1] if number < 40 else marks for number, (prompt, marks) in enumerate(base.items())}
    alone = {**better, "only here": [0]}
    one = compare("dpo", rows({"colors": alone}), "pretrained", rows({"colors": base}), BOOTSTRAP)
    assert one.overall.mean == pytest.approx(20 / 60)
    assert one.sure
    said = findings([one], 60)[0]
    assert said.startswith("dpo: better than pretrained, beyond chance (overall +0.333")
    assert "colors +0.333" in said


def test_the_null_control_says_no_change():
    base = {f"p{number}": [number % 2] for number in range(60)}
    turned = {f"p{number}": [(number // 2) % 2] for number in range(60)}
    one = compare("sft", rows({"colors": turned}), "pretrained", rows({"colors": base}), BOOTSTRAP)
    assert not one.sure
    assert findings([one], 60)[0].startswith("sft: no change against pretrained that these 60 prompts can show")


def test_a_loss_is_called_a_loss():
    good, bad = {f"p{number}": [1] for number in range(20)}, {f"p{number}": [0] for number in range(20)}
    one = compare("dpo", rows({"colors": bad}), "pretrained", rows({"colors": good}), BOOTSTRAP)
    assert "worse than pretrained" in findings([one], 20)[0]


@pytest.mark.parametrize(
    ("better", "named"), [(range(40), "The student, dpo,"), (range(1), "The student, pretrained,")]
)
def test_the_headline_names_the_first_student_unless_another_is_better_beyond_chance(better, named):
    base = {f"p{number}": [number % 2] for number in range(60)}
    other = {prompt: [1] if number in better else marks for number, (prompt, marks) in enumerate(base.items())}
    judged = {"pretrained": rows({"colors": base}), "dpo": rows({"colors": other})}
    scores = [model_scores(name, name, marks) for name, marks in judged.items()]
    one = compare("dpo", judged["dpo"], "pretrained", judged["pretrained"], BOOTSTRAP)
    report = Report(
        prompts={"colors": 60}, samples_per_prompt=1, verdict="scenes", confidence=0.95, models=scores,
        differences=[one], findings=[],
    )  # fmt: skip
    assert headline(report).startswith(named)
