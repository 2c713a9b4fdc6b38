from pathlib import Path

import numpy as np
import pytest
import torch
from lightgen.evaluation.detectors import DetectorConfig
from lightgen.evaluation.mask2former import COLORS, GRAY, Mask2FormerConfig, Mask2FormerDetector
from pydantic import TypeAdapter

from lightgen.errors import ConfigError, ModelError
from lightgen.evaluation.geneval import THRESHOLD, Metadata
from tests.tiny_models import clip_tokenizer


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Mask2FormerDetector:
    """Tiny random weights of the real classes, saved and read as the large ones are."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )
    from transformers import (
        Mask2FormerConfig as Config,
    )

    root: Path = tmp_path_factory.mktemp("eyes")
    torch.manual_seed(0)
    swin = SwinConfig(
        image_size=32, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = Config(
        backbone_config=swin, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=5, num_labels=3,
        id2label={0: "dog", 1: "mouse", 2: "cat"}, label2id={"dog": 0, "mouse": 1, "cat": 2},
    )  # fmt: skip
    segmenter = Mask2FormerForUniversalSegmentation(config)
    # Fresh weights are sure of nothing; louder ones see things above GenEval's threshold.
    torch.nn.init.normal_(segmenter.class_predictor.weight, std=2.0)
    segmenter.save_pretrained(root / "segmenter")
    Mask2FormerImageProcessor(size={"height": 64, "width": 64}, ignore_index=255).save_pretrained(root / "segmenter")
    tokenizer = clip_tokenizer(root)
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(root / "colors")
    size = {"height": 32, "width": 32}
    eyes = CLIPImageProcessor(size=size, crop_size=size)
    CLIPProcessor(image_processor=eyes, tokenizer=tokenizer).save_pretrained(root / "colors")
    return Mask2FormerConfig.model_validate(
        {"segmenter": {"model": str(root / "segmenter")}, "colors": {"model": str(root / "colors")}, "device": "cpu"}
    ).make()


def _meaning(*include: dict) -> Metadata:
    return Metadata.model_validate({"tag": "colors", "include": include, "prompt": "p"})


def _images(n: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (n, 48, 56, 3), dtype=np.uint8))


def test_boxes_are_in_the_pixels_of_the_image_and_colours_only_where_asked(detector: Mask2FormerDetector) -> None:
    plain = _meaning({"class": "bus", "count": 1})
    asked = _meaning(*({"class": name, "count": 1, "color": "red"} for name in ("dog", "computer mouse", "cat")))
    found = detector.detect(_images(6), [plain, asked] * 3)
    assert len(found) == 6
    things = [thing for boxes in found for thing in boxes]
    assert things, "random weights should see something"
    for thing in things:
        assert thing.name in {"dog", "computer mouse", "cat"}
        assert THRESHOLD <= thing.score <= 1
        x0, y0, x1, y1 = thing.box
        assert 0 <= x0 < x1 <= 56
        assert 0 <= y0 < y1 <= 48
    assert all(thing.color is None for boxes in found[::2] for thing in boxes)
    assert all(thing.color in COLORS for boxes in found[1::2] for thing in boxes)


def test_the_batch_does_not_matter(detector: Mask2FormerDetector) -> None:
    images, asked = _images(3), [_meaning({"class": "dog", "count": 1})] * 3
    together = detector.detect(images, asked)
    alone = [detector.detect([image], asked[:1])[0] for image in images]
    for boxes, others in zip(together, alone, strict=True):
        assert [box.name for box in boxes] == [box.name for box in others]
        assert [box.score for box in boxes] == pytest.approx([box.score for box in others], abs=1e-4)


def test_the_colour_is_that_of_the_object_on_gray_alone(detector: Mask2FormerDetector) -> None:
    image, mask = _images(1)[0], np.zeros((48, 56), bool)
    mask[10:30, 12:40] = True
    box, elsewhere = (12.0, 10.0, 40.0, 30.0), np.where(mask[:, :, None], image, 255 - image)
    mask[12:16, 14:20] = False
    holed = np.where(mask[:, :, None], image, np.uint8(GRAY))
    assert len({detector._color(one, mask, box, "dog") for one in (image, elsewhere, holed)}) == 1


def test_a_recipe_can_name_it(detector: Mask2FormerDetector) -> None:
    values = detector.config.model_dump()
    assert isinstance(TypeAdapter(DetectorConfig).validate_python(values).make(), Mask2FormerDetector)


def test_identity_is_the_weights(detector: Mask2FormerDetector) -> None:
    identity = detector.identity()
    assert identity["kind"] == "mask2former"
    assert len(identity["segmenter"]["sha256"]) == len(identity["colors"]["sha256"]) == 64


def test_weights_that_are_not_there_or_not_pinned_are_refused(detector: Mask2FormerDetector, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="revision"):
        Mask2FormerConfig().make().identity()
    (tmp_path / "config.json").write_text("{}")
    broken = Mask2FormerConfig.model_validate({"segmenter": {"model": str(tmp_path)}, "device": "cpu"}).make()
    with pytest.raises(ModelError):
        broken.detect(_images(1), [_meaning({"class": "dog", "count": 1})])
