import json
from collections import Counter
from pathlib import Path

import pytest

from lightgen.evaluation.geneval import Detected, Metadata, direction, judge_image, scene_metadata, task_scores
from lightgen.scenes.grammar import TASKS, all_scenes, parse

GENEVAL = Path(__file__).parents[3] / "../shared/data/geneval_evaluation_metadata.jsonl"


def _meaning(tag: str, *include: dict, exclude: tuple[dict, ...] = ()) -> Metadata:
    return Metadata.model_validate({"tag": tag, "include": include, "exclude": exclude, "prompt": "p"})


def _box(name: str, score: float = 0.95, x: float = 50, y: float = 50, size: float = 20, color: str | None = None):
    return Detected(name, score, (x - size / 2, y - size / 2, x + size / 2, y + size / 2), color)


DOG = {"class": "dog", "count": 1}
TWO_DOGS = _meaning("counting", {"class": "dog", "count": 2}, exclude=({"class": "dog", "count": 3},))


@pytest.mark.parametrize(("score", "correct"), [(0.3, False), (0.31, True), (0.95, True)])
def test_presence_needs_more_than_the_threshold(score: float, correct: bool) -> None:
    assert judge_image([_box("dog", score)], _meaning("single_object", DOG)).correct is correct


@pytest.mark.parametrize(("n", "correct"), [(0, False), (1, False), (2, True), (3, False), (4, False)])
def test_counting_fails_with_too_few_and_too_many(n: int, correct: bool) -> None:
    assert judge_image([_box("dog", x=20 * i) for i in range(n)], TWO_DOGS).correct is correct


def test_counting_sees_only_very_sure_boxes() -> None:
    assert judge_image([_box("dog"), _box("dog"), _box("dog", 0.9)], TWO_DOGS).correct
    assert not judge_image([_box("dog"), _box("dog", 0.9)], TWO_DOGS).correct


def test_other_tasks_do_not_mind_more() -> None:
    assert judge_image([_box("dog")] * 3, _meaning("single_object", DOG)).correct


def test_only_sixteen_of_a_class_count() -> None:
    many = [_box("dog")] * 20
    assert judge_image(many, _meaning("counting", {"class": "dog", "count": 16})).correct
    assert not judge_image(many, _meaning("counting", {"class": "dog", "count": 17})).correct


def test_two_objects_need_both() -> None:
    both = _meaning("two_object", DOG, {"class": "cat", "count": 1})
    assert judge_image([_box("dog"), _box("cat")], both).correct
    verdict = judge_image([_box("dog")], both)
    assert not verdict.correct
    assert "cat" in verdict.reason


def test_the_surest_box_decides_the_colour() -> None:
    red = _meaning("colors", {**DOG, "color": "red"})
    assert judge_image([_box("dog", 0.9, color="red"), _box("dog", 0.8, color="blue")], red).correct
    assert not judge_image([_box("dog", 0.8, color="red"), _box("dog", 0.9, color="blue")], red).correct


def test_swapped_colours_fail() -> None:
    meaning = _meaning("color_attr", {**DOG, "color": "red"}, {"class": "cat", "count": 1, "color": "blue"})
    assert judge_image([_box("dog", color="red"), _box("cat", color="blue")], meaning).correct
    assert not judge_image([_box("dog", color="blue"), _box("cat", color="red")], meaning).correct


@pytest.mark.parametrize(
    ("x", "y", "where"),
    [
        (20, 50, {"left of"}),
        (80, 50, {"right of"}),
        (50, 20, {"above"}),
        (50, 80, {"below"}),
        (20, 20, {"left of", "above"}),  # beyond (26, 26) of offset (30, 30): 0.61 each
        (50, 50, set()),
        (46, 50, set()),  # |o| = 4 = 0.1 (20 + 20): nothing is left beyond the margin
        (43, 50, set()),  # 3 / 7 = 0.43: not above one half of the whole offset
        (41, 50, {"left of"}),  # 5 / 9 = 0.56
        (20, 35, {"left of"}),  # (26, 11) / 33.5 = 0.78, 0.33
    ],
)
def test_direction_by_hand(x: float, y: float, where: set[str]) -> None:
    assert direction(_box("a", x=x, y=y), _box("b")) == where


def test_position_compares_the_surest_boxes_only() -> None:
    meaning = _meaning("position", {"class": "cat", "count": 1}, {**DOG, "position": ["left of", 0]})
    right, wrong = _box("dog", 0.9, x=20), _box("dog", 0.8, x=80)
    assert judge_image([_box("cat"), right, wrong], meaning).correct
    swapped = [_box("cat"), _box("dog", 0.8, x=20), _box("dog", 0.9, x=80)]
    assert not judge_image(swapped, meaning).correct
    alone = judge_image([right], meaning)
    assert "no target" in alone.reason


def test_overall_is_the_mean_of_the_tasks_not_of_the_images() -> None:
    scores = task_scores({"colors": [True], "counting": [True, False, False, False]})
    assert scores == {"colors": 1.0, "counting": 0.25, "overall": 0.625}


@pytest.mark.parametrize("task", TASKS)
def test_scenes_have_metadata_in_genevals_format(task) -> None:
    for scene in all_scenes(task)[:200]:
        meaning = scene_metadata(scene)
        again = Metadata.model_validate_json(meaning.model_dump_json(by_alias=True))
        assert again == meaning
        assert parse(meaning.prompt) == scene
    assert meaning.tag == task


def test_a_relation_points_back_at_an_earlier_group() -> None:
    scene = parse("a circle left of a square")
    assert scene
    first, second = scene_metadata(scene).include
    assert (first.name, first.position, second.name, second.position) == ("square", None, "circle", ("left of", 0))


@pytest.mark.skipif(not GENEVAL.exists(), reason="GenEval's metadata are not beside the checkout")
def test_reads_all_of_genevals_prompts_and_an_ideal_image_passes_each() -> None:
    prompts = [Metadata.model_validate(json.loads(line)) for line in GENEVAL.read_text().splitlines()]
    sizes = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
    assert Counter(meaning.tag for meaning in prompts) == sizes
    places = {"left of": (20, 50), "right of": (80, 50), "above": (50, 20), "below": (50, 80)}
    for meaning in prompts:
        ideal = []
        for group in meaning.include:
            x, y = places[group.position[0]] if group.position else (50, 50)
            ideal += [_box(group.name, x=x, y=y, color=group.color)] * group.count
        assert judge_image(ideal, meaning).correct, meaning
        assert not judge_image(ideal[1:], meaning).correct, meaning
