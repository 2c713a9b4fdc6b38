"""What models really answer, and what becomes of it: `tests/cases/judge_answers.json` has the shapes."""

import json
from pathlib import Path
from typing import Any

import pytest

from lightgen.vlm.packs import STANDARD
from lightgen.vlm.reading import marks, one_object
from schemas.scores import Unscored

GOOD = dict(zip(STANDARD, (8, 9, 10, 7, 6, 10), strict=True))
TEXT = json.dumps(GOOD)
KINDS = {
    "{S}": TEXT,
    "{COMMA}": TEXT[:-1] + ",}",
    "{STR}": json.dumps({name: str(mark) for name, mark in GOOD.items()}),
    "{FLOAT}": json.dumps({name: float(mark) for name, mark in GOOD.items()}),
    "{HALF}": json.dumps(GOOD | {"sharp": 7.5}),
    "{TEN}": json.dumps({name: f"{mark}/10" for name, mark in GOOD.items()}),
    "{EXTRA}": json.dumps(GOOD | {"reason": "the dog is {blurred}"}),
    "{CAPS}": json.dumps({name.upper(): mark for name, mark in GOOD.items()}),
    "{CENT}": json.dumps({name: 10 * mark for name, mark in GOOD.items()}),
    "{CUT}": TEXT[: len(TEXT) // 2],
}
REFUSED = {
    "halves": "vlm_not_whole", "a scale of 100": "vlm_out_of_range", "cut off": "vlm_unparsable",
    "two objects": "vlm_two_objects",
}  # fmt: skip
CASES: dict[str, str] = json.loads((Path(__file__).parents[2] / "cases" / "judge_answers.json").read_text())


def filled(shape: str) -> str:
    for kind, text in KINDS.items():
        shape = shape.replace(kind, text)
    return shape


@pytest.mark.parametrize("name", CASES)
def test_what_models_really_answer_is_read_or_refused_by_its_reason(name: str) -> None:
    found = marks(filled(CASES[name]), STANDARD, 10)
    if name in REFUSED:
        assert isinstance(found, Unscored)
        assert found.reason == REFUSED[name]
    else:
        assert found == GOOD
        assert all(type(mark) is int for mark in found.values())  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "vlm_unparsable"),
        ("The image is great: 10/10", "vlm_unparsable"),
        (f"[{TEXT}]", "vlm_unparsable"),
        (TEXT.replace("8", "NaN"), "vlm_unparsable"),
        (TEXT.replace("8", "9" * 4500), "vlm_unparsable"),
        ('{"sharp": ' * 300, "vlm_unparsable"),
        ('{"a":' * 200 + "1" + "}" * 200, "vlm_key_missing"),
        (TEXT + " " * 5000 + "x", "vlm_unparsable"),
        (TEXT + TEXT, "vlm_two_objects"),
        (f"{TEXT} or rather {TEXT[:20]}", "vlm_two_objects"),
        (TEXT[:-1] + ', "sharp": 10}', "vlm_key_twice"),
        (TEXT[:-1] + ', "SHARP": 10}', "vlm_key_twice"),
        (json.dumps({**GOOD, "passed": True}), "vlm_key_unknown"),
        (json.dumps({name: GOOD[name] for name in STANDARD[1:]}), "vlm_key_missing"),
        (json.dumps({"grades": GOOD}), "vlm_key_missing"),
        (json.dumps({**GOOD, "sharp": True}), "vlm_no_number"),
        (json.dumps({**GOOD, "sharp": None}), "vlm_no_number"),
        (json.dumps({**GOOD, "sharp": [8]}), "vlm_no_number"),
        (json.dumps({**GOOD, "sharp": "eight"}), "vlm_no_number"),
        (json.dumps({**GOOD, "sharp": "8/5"}), "vlm_other_scale"),
        (json.dumps({**GOOD, "sharp": "4 out of 5"}), "vlm_other_scale"),
        (json.dumps({**GOOD, "sharp": "7.5"}), "vlm_not_whole"),
        (json.dumps({**GOOD, "sharp": -1}), "vlm_out_of_range"),
        (json.dumps({**GOOD, "sharp": 11}), "vlm_out_of_range"),
        (json.dumps({**GOOD, "sharp": 10**300}), "vlm_out_of_range"),
        (TEXT.replace("8", "1e999"), "vlm_out_of_range"),
    ],
)
def test_whatever_is_not_the_object_asked_for_is_refused(raw: str, reason: str) -> None:
    found = marks(raw, STANDARD, 10)
    assert isinstance(found, Unscored)
    assert found.reason == reason
    assert len(found.detail) <= 300


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ('{"caption": "a {brace}, and a comma,}"}', {"caption": "a {brace}, and a comma,}"}),
        ('{"caption": "a \\"quoted\\" dog",\n}', {"caption": 'a "quoted" dog'}),
        ('Sure!\n{"caption": "猫"}\nDone.', {"caption": "猫"}),
    ],
)
def test_texts_inside_of_an_object_stay_as_they_are(raw: str, found: Any) -> None:
    assert one_object(raw) == found
