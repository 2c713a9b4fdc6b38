"""Scorer `scenes` with the rules of GenEval over what it saw: right drawings pass, wrong ones say what is wrong."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from lightgen.decisions.derive import Scenes, derive
from lightgen.evaluation.detections import read_detections
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import TASKS, captions, parse
from lightgen.scorers.config import ScorerConfig
from lightgen.scorers.scenes import ScenesDetector, ScenesDetectorConfig
from lightgen.storage.store import open_or_create
from lightgen.work import Worker


def _drawn(caption: str, seed: int = 3, height_px: int = 64, width_px: int | None = None) -> np.ndarray:
    scene = parse(caption)
    assert scene is not None, caption
    return draw(scene, height_px, seed, width_px)


def _some(task: str, count: int = 6) -> list[str]:
    found = captions("preference", task)  # type: ignore[arg-type]
    return [next(found) for _ in range(count)]


def _judged(texts: list[str], images: list[np.ndarray]) -> list[dict]:
    """The verdict on each image."""
    raw = ScenesDetector().score(images, texts)
    return derive(raw.append_column("caption", pa.array(texts)), Scenes()).to_pylist()


@pytest.mark.parametrize("task", TASKS)
def test_the_generators_own_drawings_pass(task: str) -> None:
    texts = _some(task)
    verdicts = _judged(texts, [_drawn(text) for text in texts])
    assert [(one["correct"], one["share"], one["why"]) for one in verdicts] == [(True, 1.0, "")] * len(texts)
    assert {one["task"] for one in verdicts} == {task}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("height_px", "width_px"), [(64, 112), (112, 64)])
def test_they_pass_on_pictures_that_are_no_squares(task: str, height_px: int, width_px: int) -> None:
    texts = _some(task)
    verdicts = _judged(texts, [_drawn(text, 3, height_px, width_px) for text in texts])
    assert [one["correct"] for one in verdicts] == [True] * len(texts), [one["why"] for one in verdicts]


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
    (verdict,) = _judged([asked], [_drawn(shown)])
    assert (verdict["correct"], verdict["unscored"]) == (False, "")
    assert reason in verdict["why"]
    assert 0 <= verdict["share"] < 1


def test_noise_and_blank_images_fail_and_half_right_scores_between() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    blank = np.full((32, 32, 3), 200, np.uint8)
    text = "a red circle and a blue square"
    verdicts = _judged([text] * 3, [noise, blank, _drawn("a red circle and a green square")])
    assert [one["correct"] for one in verdicts] == [False] * 3
    assert [one["share"] for one in verdicts] == [0.0, 0.0, 0.5]


def test_a_caption_of_another_language_is_not_judged() -> None:
    (verdict,) = _judged(["a dog asleep on a sofa"], [_drawn("a circle")])
    assert (verdict["correct"], verdict["unscored"]) == (None, "not_a_geneval_prompt")


def test_what_it_saw_is_written_down_whatever_was_asked() -> None:
    (row,) = ScenesDetector().score([_drawn("a red circle and a blue square")], ["a cross"]).to_pylist()
    assert {(thing.name, thing.color) for thing in read_detections(row["detections"])} >= {
        ("circle", "red"), ("square", "blue"),
    }  # fmt: skip
    assert row["unscored"] == ""


def test_the_union_is_closed_and_opens_the_scorer(tmp_path) -> None:
    union: TypeAdapter = TypeAdapter(ScorerConfig)
    member = union.validate_python({"kind": "scenes"})
    assert isinstance(member.open(Worker(open_or_create(str(tmp_path)))), ScenesDetector)
    assert member.identity() == {"kind": "scenes", "revision": ScenesDetectorConfig.REVISION}
    with pytest.raises(ValidationError, match="vlm"):
        union.validate_python({"kind": "coin"})
    with pytest.raises(ValidationError, match="thresholds"):
        union.validate_python({"kind": "vlm", "thresholds": {"sharp": 11}})
