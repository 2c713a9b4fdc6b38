from itertools import islice

import pytest

from lightgen.scenes.grammar import (
    SHAPES,
    SPLITS,
    TASKS,
    Object,
    Scene,
    Task,
    all_scenes,
    canonical,
    caption,
    captions,
    n_templates,
    parse,
    split_of,
)


@pytest.mark.parametrize("task", TASKS)
def test_every_caption_is_read_back_as_its_scene(task: Task) -> None:
    for scene in all_scenes(task):
        for template in range(n_templates(scene)):
            assert parse(caption(scene, template)) == scene


def test_no_two_scenes_share_a_caption() -> None:
    words = [caption(s, t) for task in TASKS for s in all_scenes(task) for t in range(n_templates(s))]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a photo of a dog",
        "circle",
        "a circles",
        "two circle",
        "five circles",
        "a red circle and a square",
        "a red circle and a blue circle",
        "a red circle and a red square",
        "two circles left of a square",
        "a circle left of a square above a cross",
        "a circle on a green background",
        "a circle on a dark background on a dark background",
    ],
)
def test_what_is_not_in_the_language_has_no_scene(text: str) -> None:
    assert parse(text) is None


def test_case_spaces_and_the_full_stop_are_free() -> None:
    assert parse("  Two RED  circles.") == Scene("counting", (Object("circle", "red", 2),))


def test_splits_share_no_content_whatever_the_wording() -> None:
    content: dict[Scene, str] = {}
    for split in SPLITS:
        for task in TASKS:
            for text in islice(captions(split, task), 1500):
                scene = parse(text)
                assert scene is not None
                assert content.setdefault(canonical(scene), split) == split


def test_a_mirrored_relation_is_in_the_same_split() -> None:
    there, back = parse("a red circle left of a blue square"), parse("a blue square right of a red circle")
    assert there
    assert back
    assert there != back
    assert canonical(there) == canonical(back)
    assert split_of(there) == split_of(back)


def test_train_has_every_word_and_every_split_every_task_and_shape() -> None:
    words: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        for task in TASKS:
            texts = list(islice(captions(split, task), 1500))
            assert len(texts) >= 10, (split, task)
            assert len(set(texts)) == len(texts)
            assert all(any(shape in text for text in texts) for shape in SHAPES)
            words[split].update(*(text.split() for text in texts))
    assert words["train"] >= words["test"] | words["preference"]


def test_each_beginning_is_balanced_between_open_and_named_colours() -> None:
    texts = list(islice(captions("train", "position"), 100))
    scenes = [scene for text in texts if (scene := parse(text))]
    assert sum(scene.objects[0].color is None for scene in scenes) == 50
