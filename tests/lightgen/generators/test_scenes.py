import numpy as np

from lightgen.generators.base import TeacherFailure
from lightgen.generators.scenes import ScenesConfig, ScenesTeacher
from lightgen.scenes.detect import detect


def test_rows_are_independent_of_their_batch_and_unknown_captions_fail_alone() -> None:
    teacher = ScenesTeacher(ScenesConfig())
    captions, seeds = ["a red circle", "a dog on a sofa", "two blue squares"], [1, 2, 3]
    circle, dog, squares = teacher.generate(captions, seeds, 40)
    assert isinstance(dog, TeacherFailure)
    assert dog.reason == "teacher_failure"
    assert "dog" in dog.detail
    assert isinstance(circle, np.ndarray)
    assert isinstance(squares, np.ndarray)
    assert [(thing.color, thing.shape) for thing in detect(circle)] == [("red", "circle")]
    assert [(thing.color, thing.shape) for thing in detect(squares)] == [("blue", "square")] * 2
    assert np.array_equal(teacher.generate(captions[2:], seeds[2:], 40)[0], squares)


def test_identity_names_the_kind() -> None:
    assert ScenesTeacher(ScenesConfig()).identity()["kind"] == "scenes"
