from collections import Counter

import pytest
from pydantic import ValidationError

from lightgen.corpora.scenes import ScenesCorpus
from lightgen.scenes.grammar import TASKS, parse


def _tasks(count: int, split="train") -> Counter[str]:
    texts = [(row.text or b"").decode() for row in ScenesCorpus(split=split, count=count).read()]
    assert len(set(texts)) == len(texts)
    return Counter(scene.task for text in texts if (scene := parse(text)))


def test_tasks_are_balanced_and_a_small_task_gives_all_it_has() -> None:
    assert _tasks(48) == dict.fromkeys(TASKS, 8)
    many = _tasks(1800)
    assert many["single_object"] < many["two_object"] < 300
    assert many["position"] == many["color_attr"] == 300


def test_rows_say_where_they_are_from_and_are_always_the_same() -> None:
    corpus = ScenesCorpus(split="test", count=30)
    rows = list(corpus.read())
    assert rows == list(corpus.read())
    assert {(row.source, row.licence) for row in rows} == {(f"scenes/test/{task}", "CC0-1.0") for task in TASKS}
    assert len({row.where for row in rows}) == 30


def test_wrong_settings_are_refused() -> None:
    for wrong in ({"split": "validation", "count": 12}, {"split": "test", "count": 5}, {"split": "test", "n": 12}):
        with pytest.raises(ValidationError):
            ScenesCorpus.model_validate(wrong)
