"""Packs of questions: built in, of a recipe, and by caption in the layouts that people have."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from lightgen.errors import InputCorrupt
from lightgen.vlm.packs import QUALITY, STANDARD, Expected, FilePack, ListPack, PackConfig, QualityPack
from lightgen.vlm.prompts import filled

PACK: TypeAdapter = TypeAdapter(PackConfig)


def test_each_standard_question_has_a_denial_and_one_alone_tells_the_caption() -> None:
    assert STANDARD == ("sharp", "clean", "match", "countable", "placed", "safe")
    for question in QUALITY:
        assert question.asked != question.denied
        assert ("{caption}" in question.asked) is ("{caption}" in question.denied) is (question.name == "match")
    assert "brackets {x}" in filled("Caption: {caption}", "brackets {x}")


def test_a_pack_may_be_named_listed_or_given_whole() -> None:
    assert PACK.validate_python("quality") == QualityPack()
    assert PACK.validate_python(["safe", "sharp"]) == QualityPack(only=("safe", "sharp"))
    assert [one.name for one in PACK.validate_python(["safe", "sharp"]).questions] == ["sharp", "safe"]
    own = {"kind": "list", "ask": [{"name": "dog", "asked": "A dog?", "denied": "No dog?"}]}
    assert PACK.validate_python(own).questions[0].name == "dog"
    assert isinstance(PACK.validate_python(own), ListPack)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("beauty", "'quality', 'list', 'file'"),
        (["sharp", "beauty"], "name some of sharp"),
        (["sharp", "sharp"], "each once"),
        ({"kind": "list", "ask": []}, "at least 1"),
        ({"kind": "list", "ask": [{"name": "a", "asked": "x", "denied": "y"}] * 2}, "a name of its own"),
        ({"kind": "list", "ask": [{"name": "A b", "asked": "x", "denied": "y"}]}, "pattern"),
    ],
)
def test_a_pack_that_is_none_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PACK.validate_python(given)


def pack(tmp_path: Path, text: str) -> FilePack:
    path = tmp_path / "pack.jsonl"
    path.write_text(text, encoding="utf-8")
    return FilePack(path=str(path))


def test_questions_of_three_layouts_are_read_by_caption(tmp_path: Path) -> None:
    own = {"prompt": " two dogs ", "questions": [{"question": "Are there dogs?", "answer": "Yes"}]}
    geneval2 = {"prompt": "a cat", "vqa_list": [["How many cats?", "one"], ["Is it red?", "no"]], "skills": ["count"]}
    found = pack(tmp_path, f"\ufeff{json.dumps(own)}\n\n{json.dumps(geneval2)}\n").by_caption
    assert found == {
        "two dogs": (Expected("Are there dogs?", "Yes"),),
        "a cat": (Expected("How many cats?", "one"), Expected("Is it red?", "no")),
    }
    assert [one.asked for one in found["a cat"]] == ["How many cats? Is this the answer: one?", "Is it red?"]
    tifa = [
        {"id": "1", "caption": "a dog", "question": "animal?", "choices": ["dog", "cat"], "answer": "dog"},
        {"id": "1", "caption": "a dog", "question": "is it?", "choices": ["yes", "no"], "answer": "yes"},
        {"id": "1", "caption": "a dog", "question": "is it?", "choices": ["yes", "no"], "answer": "yes"},
    ]
    assert [one.question for one in pack(tmp_path, json.dumps(tifa)).by_caption["a dog"]] == ["animal?", "is it?"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1: no JSON"),
        ('{"prompt": "a"}', "record 1: no prompt with its questions"),
        ('{"prompt": 3, "questions": []}', "record 1"),
        ('{"prompt": "a", "vqa_list": [["x"]]}', "record 1"),
        ('{"prompt": "a", "questions": [{"question": " ", "answer": "b"}]}', "an empty question"),
        ("[1]", "record 1"),
        ("[", "no JSON"),
    ],
)
def test_a_file_that_is_no_pack_says_where(tmp_path: Path, text: str, said: str) -> None:
    broken = pack(tmp_path, text)
    with pytest.raises(InputCorrupt, match=said):
        _ = broken.by_caption
    (problem,) = broken.problems()
    assert said in problem.what


def test_a_file_is_named_by_what_it_holds(tmp_path: Path) -> None:
    first = pack(tmp_path, '{"prompt": "a", "questions": [{"question": "x", "answer": "yes"}]}')
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(Path(first.path).read_bytes())
    assert FilePack(path=str(moved)).content() == first.content()
    assert list(first.problems()) == []
    moved.write_text("\n")
    assert FilePack(path=str(moved)).content() != first.content()
    assert ["holds no question" in problem.what for problem in FilePack(path=str(moved)).problems()] == [True]
    assert ["cannot be read" in problem.what for problem in FilePack(path=str(tmp_path / "no")).problems()] == [True]
