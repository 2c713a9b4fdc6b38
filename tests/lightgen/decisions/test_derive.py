"""Derivations against the rules applied to what the detector itself says, over several gates and real pictures."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError

from lightgen.decisions.derive import (
    ANSWERS,
    GENEVAL,
    QUESTIONS,
    Answers,
    DeriveConfig,
    Geneval,
    Probabilities,
    Questions,
    Scenes,
    derive,
)
from lightgen.errors import ConfigError, SchemaMismatch
from lightgen.evaluation.detections import read_detections, write_detections
from lightgen.evaluation.geneval import Detected, Metadata, judge_image, scene_metadata
from lightgen.scenes.detect import Detection, detect
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import TASKS, captions, parse

DOG = Metadata.model_validate(
    {"tag": "two_object", "include": [{"class": "dog", "count": 1}, {"class": "cat", "count": 1}], "prompt": "p"}
)


def blurred(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture whose silhouettes are less than sure: mixed with a shifted copy, and noisy."""
    mixed = image * 0.6 + np.roll(image, rng.integers(1, 4), axis=(0, 1)) * 0.4
    return np.clip(mixed + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def pictures() -> list[tuple[str, np.ndarray]]:
    """Captions with the picture of that scene, of the scene before it, and blurred ones of both."""
    rng, found = np.random.default_rng(0), []
    texts = [text for task in TASKS for _, text in zip(range(8), captions("preference", task), strict=False)]
    images = [draw(parse(text), 48, seed=number) for number, text in enumerate(texts)]
    for number, text in enumerate(texts):
        for image in (images[number], images[number - 1]):
            found += [(text, image), (text, blurred(image, rng))]
    return found


def plain(thing: Detection) -> Detected:
    return Detected(thing.shape, thing.score, thing.box, thing.color)


@pytest.fixture(scope="module")
def seen() -> list[tuple[str, list[Detection]]]:
    return [(text, detect(image)) for text, image in pictures()]


@pytest.fixture(scope="module")
def raw(seen: list) -> pa.Table:
    texts = [text for text, _ in seen]
    found = [write_detections(map(plain, things)) for _, things in seen]
    return pa.table({"caption": texts, "detections": found, "unscored": [""] * len(texts)})


@pytest.mark.parametrize("sure", [0.3, 0.5, 0.7, 0.82, 0.95])
def test_a_gate_over_raw_overlaps_is_the_judge_with_that_gate(seen: list, raw: pa.Table, sure: float) -> None:
    rows = derive(raw, Scenes(sure=sure)).to_pylist()
    for (text, things), row in zip(seen, rows, strict=True):
        meaning = scene_metadata(parse(text))
        # What is sure enough is sure enough for counting too, and what is not is not there.
        verdict = judge_image(
            [Detected(t.shape, 0.9 + 0.1 * (t.score - sure), t.box, t.color) for t in things if t.score > sure], meaning
        )
        asked = len(meaning.include) + len(meaning.exclude) + sum(g.position is not None for g in meaning.include)
        share = 1.0 if verdict.correct else max(0.0, 1 - len(verdict.reason.split("; ")) / asked)
        assert row == {
            "task": meaning.tag, "correct": verdict.correct, "share": pytest.approx(share), "why": verdict.reason,
            "unscored": "",
        }  # fmt: skip
    assert {row["correct"] for row in rows} == {True, False}
    assert len({row["share"] for row in rows}) > 2


def test_another_gate_is_another_verdict(raw: pa.Table) -> None:
    right = [derive(raw, Scenes(sure=sure))["correct"].to_pylist().count(True) for sure in (0.3, 0.82, 0.99)]
    assert right[0] > right[1] > right[2]


def test_confidences_are_taken_as_they_are_and_meanings_as_given() -> None:
    dog, cat = (Detected(name, 0.5, (0, 0, 9, 9)) for name in ("dog", "cat"))
    found = [write_detections([dog, cat]), write_detections([dog]), write_detections([])]
    raw = pa.table({"caption": ["x"] * 3, "detections": found, "unscored": [""] * 3})
    rows = derive(raw, Geneval(), {"x": DOG}.get).to_pylist()
    assert [(row["correct"], row["share"]) for row in rows] == [(True, 1.0), (False, 0.5), (False, 0.0)]
    assert rows[1]["why"] == "expected cat x1, found 0"


def test_rows_without_a_score_or_a_meaning_are_null_and_say_why(raw: pa.Table) -> None:
    given = pa.table(
        {
            "caption": ["a circle", "a dog asleep", "a circle"],
            "detections": pa.array([None, "[]", None], pa.string()),
            "unscored": ["truncated", "", ""],
        }
    )
    made = derive(given, Scenes())
    assert made.schema == GENEVAL
    assert made["unscored"].to_pylist() == ["truncated", "not_a_geneval_prompt", "unscored"]
    assert made["correct"].null_count == made["share"].null_count == made["why"].null_count == 3
    assert derive(raw.slice(0, 0), Scenes()).num_rows == 0


def test_detections_survive_their_text_to_the_last_bit(seen: list) -> None:
    found = [[plain(thing) for thing in things] for _, things in seen]
    assert [read_detections(write_detections(one)) for one in found] == found
    assert set(json.loads(write_detections(found[0]))[0]) == {"class", "score", "color", "box"}


@pytest.mark.parametrize(
    "text", ["", "{}", '[{"class": "dog"}]', '[{"class":"a","score":NaN,"color":null,"box":[0,0,1,1]}]', "[1]"]
)
def test_text_that_holds_no_detections_is_refused(text: str) -> None:
    raw = pa.table({"caption": ["a circle"] * 2, "detections": ["[]", text], "unscored": ["", ""]})
    with pytest.raises(SchemaMismatch, match="column detections, row 1: not a list of detections"):
        derive(raw, Scenes())


def test_the_mean_of_a_judges_answers() -> None:
    names = Answers().columns
    raw = pa.table(
        {
            **{name: pa.array([at, 10, None], pa.int8()) for at, name in enumerate(names)},
            "unscored": pa.array(["", None, "vlm_unparsable"]),
        }
    )
    made = derive(raw, Answers())
    assert made.schema == ANSWERS
    assert made["mean"].to_pylist() == [pytest.approx(0.25), 1.0, None]
    assert made["unscored"].to_pylist() == ["", "", "vlm_unparsable"]
    assert derive(raw, Answers(columns=("countable",), best=3))["mean"].to_pylist()[0] == 1.0


def probabilities(**columns: list[float | None]) -> pa.Table:
    unscored = ["" if value is not None else "vlm_refused" for value in columns["a_asked"]]
    return pa.table({name: pa.array(values, pa.float32()) for name, values in columns.items()} | {"unscored": unscored})


RAW = probabilities(
    a_asked=[0.9, 0.9, None], a_denied=[0.1, 0.7, None], b_asked=[0.2, 1, None], b_denied=[0.6, 0, None]
)


def test_both_polarities_of_a_question_are_averaged_and_how_far_they_are_apart_is_told() -> None:
    made = derive(RAW, Probabilities(questions=("a", "b")))
    assert made.column_names == ["a", "a_split", "b", "b_split", "mean", "unscored"]
    assert made["a"].to_pylist() == [pytest.approx(0.9), pytest.approx(0.6), None]
    assert made["a_split"].to_pylist() == [pytest.approx(0, abs=1e-6), pytest.approx(0.6), None]
    assert made["b"].to_pylist() == [pytest.approx(0.3), pytest.approx(1.0), None]
    assert made["mean"].to_pylist() == [pytest.approx(0.6), pytest.approx(0.8), None]
    assert made["unscored"].to_pylist() == ["", "", "vlm_refused"]
    assert {made.schema.field(name).type for name in made.column_names[:5]} == {pa.float32()}


def test_the_mean_is_over_all_or_some_questions_arithmetic_or_geometric() -> None:
    geometric = derive(RAW, Probabilities(questions=("a", "b"), mean="geometric"))["mean"].to_pylist()
    assert geometric == [pytest.approx((0.9 * 0.3) ** 0.5), pytest.approx(0.6**0.5), None]
    some = derive(RAW, Probabilities(questions=("a", "b"), over=("b",)))["mean"].to_pylist()
    assert some == [pytest.approx(0.3), pytest.approx(1.0), None]
    never = probabilities(a_asked=[0.0], a_denied=[1.0], b_asked=[1.0], b_denied=[0.0])
    assert derive(never, Probabilities(questions=("a", "b"), mean="geometric"))["mean"][0].as_py() < 0.01
    with pytest.raises(ValidationError, match="over names c; the questions are a, b"):
        Probabilities(questions=("a", "b"), over=("c",))


def answered(*ps: float) -> str:
    return json.dumps([{"question": f"q{place}", "answer": "yes", "p": p} for place, p in enumerate(ps)])


def test_questions_of_a_caption_come_to_two_means_and_a_verdict() -> None:
    raw = pa.table({"answers": [answered(0.9, 0.4), answered(1, 0.5), None], "unscored": ["", "", "no_questions"]})
    made = derive(raw, Questions())
    assert made.schema == QUESTIONS
    assert made["arithmetic"].to_pylist() == [pytest.approx(0.65), pytest.approx(0.75), None]
    assert made["geometric"].to_pylist() == [pytest.approx(0.6), pytest.approx(0.5**0.5), None]
    assert made["share"].equals(made["arithmetic"])
    assert derive(raw, Questions(mean="geometric"))["share"].equals(made["geometric"])
    assert made["correct"].to_pylist() == [False, True, None]
    assert made["why"].to_pylist() == ["q1", "", None]
    assert made["unscored"].to_pylist() == ["", "", "no_questions"]
    assert derive(raw, Questions(sure=0.95))["why"].to_pylist() == ["q0; q1", "q1", None]


@pytest.mark.parametrize("text", ["", "{}", "[]", '[{"question": "a"}]', '[{"question": "a", "p": 2}]', "[1]"])
def test_text_that_holds_no_answers_is_refused(text: str) -> None:
    with pytest.raises(SchemaMismatch, match="column answers, row 0: not a list of answers"):
        derive(pa.table({"answers": [text], "unscored": [""]}), Questions())


def test_settings_are_a_closed_union() -> None:
    union: TypeAdapter = TypeAdapter(DeriveConfig)
    assert union.validate_python({"kind": "scenes", "sure": 0.5}) == Scenes(sure=0.5)
    with pytest.raises(ValidationError, match="'geneval', 'scenes', 'answers', 'probabilities', 'questions'"):
        union.validate_python({"kind": "median"})
    with pytest.raises(ValidationError, match="sure"):
        union.validate_python({"kind": "geneval", "sure": 0.5})
    with pytest.raises(ConfigError, match="no column 'found'"):
        derive(pa.table({"caption": ["x"], "unscored": [""]}), Scenes(column="found"))
