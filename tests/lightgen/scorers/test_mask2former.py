"""Scorer `mask2former` on tiny random weights of the real classes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from lightgen.errors import ConfigError, ModelError
from lightgen.evaluation.detections import read_detections
from lightgen.evaluation.geneval import THRESHOLD, Detected
from lightgen.scorers.config import ScorerConfig
from lightgen.scorers.mask2former import (
    COLORS,
    GRAY,
    MEAN,
    STD,
    Mask2FormerConfig,
    Mask2FormerDetector,
    prepared,
    resized,
)
from lightgen.scorers.tiny import tiny_clip, tiny_segmenter


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Mask2FormerConfig:
    root = tmp_path_factory.mktemp("eyes")
    tiny_segmenter(root / "segmenter")
    tiny_clip(root / "colors")
    return config_of(root)


def config_of(root: Path, **changes: object) -> Mask2FormerConfig:
    models = {name: {"model": str(root / name)} for name in ("segmenter", "colors")}
    return Mask2FormerConfig.model_validate({**models, "short_px": 64, "long_px": 107, **changes})


@pytest.fixture(scope="module")
def detector(config: Mask2FormerConfig) -> Mask2FormerDetector:
    return Mask2FormerDetector(config, "cpu")


def _images(n: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, 48, 56, 3), dtype=np.uint8))


def _seen(detector: Mask2FormerDetector, images: list[np.ndarray]) -> list[list[Detected]]:
    rows = detector.score(images, [""] * len(images)).to_pylist()
    assert all(row["unscored"] == "" for row in rows)
    return [read_detections(row["detections"]) for row in rows]


def test_boxes_are_in_the_pixels_of_the_image_and_every_thing_has_a_colour(detector: Mask2FormerDetector) -> None:
    found = _seen(detector, _images(6))
    assert len(found) == 6
    things = [thing for boxes in found for thing in boxes]
    assert things, "random weights should see something"
    for thing in things:
        assert thing.name in {"dog", "computer mouse", "cat"}
        assert THRESHOLD <= thing.score <= 1
        x0, y0, x1, y1 = thing.box
        assert 0 <= x0 < x1 <= 56
        assert 0 <= y0 < y1 <= 48
        assert thing.color in COLORS


def test_the_batch_does_not_matter(detector: Mask2FormerDetector) -> None:
    images = _images(3)
    together = _seen(detector, images)
    alone = [_seen(detector, [image])[0] for image in images]
    for boxes, others in zip(together, alone, strict=True):
        assert [box.name for box in boxes] == [box.name for box in others]
        assert [box.score for box in boxes] == pytest.approx([box.score for box in others], abs=1e-4)


def test_sides_are_those_of_mmdet() -> None:
    assert resized(512, 512, 800, 1333) == (800, 800)
    assert resized(480, 640, 800, 1333) == (800, 1067)
    assert resized(300, 900, 800, 1333) == (444, 1333)


def test_a_mask_keeps_its_place_on_a_wide_picture_and_its_score_is_class_times_mask(
    detector: Mask2FormerDetector,
) -> None:
    """Written out: logits at the padded size, cut to the resized picture, scaled to its own size, above zero."""
    size, shape = (64, 96), (40, 60)
    classes, masks = torch.full((2, 4), -20.0), torch.full((2, 96, 128), -3.0)
    classes[0, 2], classes[1, 3] = 5.0, 5.0
    masks[0, 16:48, 24:72] = 2.0
    masks[:, 64:] = masks[:, :, 96:] = 9.0  # padding, which is no part of the picture
    [(name, score, mask)] = detector._things(classes, masks, size, shape)
    scaled = torch.nn.functional.interpolate(masks[:1, None, :64, :96], shape, mode="bilinear")[0, 0]
    assert name == "cat"
    np.testing.assert_array_equal(mask, (scaled > 0).numpy())
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (10, 30, 15, 45)
    sure = classes[0].softmax(0)[2] * scaled[scaled > 0].sigmoid().mean()
    assert score == pytest.approx(float(sure), abs=1e-6)


def test_pictures_are_normalised_and_padded_below_and_to_the_right() -> None:
    pixels = torch.full((1, 40, 60, 3), 255, dtype=torch.uint8)
    ready = prepared(pixels, (64, 96))
    assert ready.shape == (1, 3, 64, 96)
    assert ready[0, :, 0, 0].tolist() == pytest.approx(
        [(255 - m) / s for m, s in zip(MEAN, STD, strict=True)], rel=1e-5
    )
    padded = prepared(pixels, (53, 80))
    assert padded.shape == (1, 3, 64, 96)
    assert padded[:, :, 53:].abs().sum() == padded[..., 80:].abs().sum() == 0


def test_the_colour_is_that_of_the_object_on_gray_alone(detector: Mask2FormerDetector) -> None:
    image, mask = _images(1)[0], np.zeros((48, 56), bool)
    mask[10:30, 12:40] = True
    box, elsewhere = (12.0, 10.0, 40.0, 30.0), np.where(mask[:, :, None], image, 255 - image)
    mask[12:16, 14:20] = False
    holed = np.where(mask[:, :, None], image, np.uint8(GRAY))
    assert len({detector._color(one, mask, box, "dog") for one in (image, elsewhere, holed)}) == 1


def test_less_sure_things_are_written_down_below_a_lower_floor(config: Mask2FormerConfig) -> None:
    low = Mask2FormerDetector(config.model_copy(update={"floor": 0.05}), "cpu")
    more, fewer = (sum(map(len, _seen(one, _images(6)))) for one in (low, Mask2FormerDetector(config, "cpu")))
    assert more > fewer


def test_a_recipe_can_name_it(config: Mask2FormerConfig) -> None:
    assert TypeAdapter(ScorerConfig).validate_python(config.model_dump()) == config


def test_identity_is_the_weights_and_the_floor_and_no_place(config: Mask2FormerConfig, tmp_path: Path) -> None:
    identity = config.identity()
    assert (identity["kind"], identity["floor"]) == ("mask2former", THRESHOLD)
    assert len(identity["segmenter"]["weights"]["sha256"]) == len(identity["colors"]["weights"]["sha256"]) == 64
    moved = config_of(shutil.copytree(Path(config.segmenter.model).parent, tmp_path / "moved"), batch_size=1)
    assert moved.identity() == identity
    assert config.model_copy(update={"floor": 0.2}).identity() != identity


def test_weights_that_are_not_there_or_not_pinned_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="revision"):
        Mask2FormerConfig().identity()
    (tmp_path / "config.json").write_text("{}")
    broken = Mask2FormerConfig.model_validate({"segmenter": {"model": str(tmp_path)}})
    with pytest.raises(ModelError):
        Mask2FormerDetector(broken, "cpu").score(_images(1), [""])
