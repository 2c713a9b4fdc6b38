import json

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import TASKS, captions, parse
from lightgen.scorers.judge import JudgeConfig, load_judge
from lightgen.scorers.scenes_judge import ScenesJudge, ScenesJudgeConfig


def _drawn(caption: str, seed: int = 3, size_px: int = 64) -> np.ndarray:
    scene = parse(caption)
    assert scene is not None, caption
    return draw(scene, size_px, seed)


def _some(task: str, count: int = 6) -> list[str]:
    found = captions("preference", task)  # type: ignore[arg-type]
    return [next(found) for _ in range(count)]


@pytest.mark.parametrize("task", TASKS)
def test_the_teachers_own_drawings_pass(task: str) -> None:
    texts = _some(task)
    verdicts = ScenesJudge(ScenesJudgeConfig()).judge(texts, [_drawn(text) for text in texts])
    assert [(verdict.passed, verdict.score, verdict.reason) for verdict in verdicts] == [(True, 1.0, "")] * len(texts)


@pytest.mark.parametrize(
    ("asked", "shown", "reason"),
    [
        ("a red circle", "a blue circle", "expected red circle"),
        ("a circle", "a square", "expected circle x1, found 0"),
        ("three green squares", "two green squares", "found 2"),
        ("two green squares", "three green squares", "fewer than 3"),
        ("a circle left of a square", "a circle right of a square", "left of"),
        ("a red circle and a blue square", "a blue circle and a red square", "expected red circle"),
    ],
)
def test_what_is_wrong_fails_with_the_rule_it_breaks(asked: str, shown: str, reason: str) -> None:
    verdict = ScenesJudge(ScenesJudgeConfig()).judge([asked], [_drawn(shown)])[0]
    assert (verdict.passed, verdict.judged) == (False, True)
    assert reason in verdict.reason
    assert 0 <= verdict.score < 1
    assert json.loads(json.dumps(verdict.answer))["detections"]


def test_noise_and_blank_images_fail_and_half_right_scores_between() -> None:
    judge = ScenesJudge(ScenesJudgeConfig())
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    blank = np.full((32, 32, 3), 200, np.uint8)
    text = "a red circle and a blue square"
    verdicts = judge.judge([text] * 3, [noise, blank, _drawn("a red circle and a green square")])
    assert [verdict.passed for verdict in verdicts] == [False] * 3
    assert [verdict.score for verdict in verdicts] == [0.0, 0.0, 0.5]


def test_a_caption_of_another_language_is_not_judged() -> None:
    verdict = ScenesJudge(ScenesJudgeConfig()).judge(["a dog asleep on a sofa"], [_drawn("a circle")])[0]
    assert (verdict.judged, verdict.passed, verdict.reason) == (False, False, "not_a_scene_caption")


def test_the_union_is_closed_and_finds_the_judge() -> None:
    union: TypeAdapter = TypeAdapter(JudgeConfig)
    judge = load_judge(union.validate_python({"kind": "scenes"}), "cpu")
    assert judge.identity()["kind"] == "scenes"
    json.dumps(judge.identity())
    with pytest.raises(ValidationError, match="qwen_vl"):
        union.validate_python({"kind": "coin"})
    with pytest.raises(ValidationError, match="sharpness"):
        union.validate_python({"kind": "qwen_vl", "thresholds": {"sharpness": 11}})
