"""Scorers `embedding` and `layout`: vectors of pictures, prepared without torchvision as transformers prepares them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightgen.errors import ModelError
from lightgen.scorers.embedding import EmbeddingConfig, EmbeddingScorer, Preparation, read_preparation
from lightgen.scorers.layout import LayoutScorer, layout
from lightgen.scorers.tiny import tiny_clip
from lightgen.storage.pixels import Pixels
from schemas.scores import VECTOR


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def config_of(folder: Path, **changes: object) -> EmbeddingConfig:
    return EmbeddingConfig.model_validate({"weights": {"model": str(folder)}} | changes)


def pictures() -> list[Pixels]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((48, 56), (64, 40), (33, 33))]


def seen(config: EmbeddingConfig, images: list[Pixels]) -> np.ndarray:
    rows = EmbeddingScorer(config, "cpu").score(images, [""] * len(images))[VECTOR.name].to_pylist()
    return np.stack([np.frombuffer(row, "<f4") for row in rows])


def test_a_projected_vector_is_clips_own(clip: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPModel

    ready: Any = CLIPImageProcessor.from_pretrained(clip)(images=pictures(), return_tensors="pt")
    with torch.inference_mode():
        told: Any = CLIPModel.from_pretrained(clip).get_image_features(pixel_values=ready["pixel_values"])
    told = told if isinstance(told, torch.Tensor) else told.pooler_output
    np.testing.assert_allclose(seen(config_of(clip, pool="projected"), pictures()), told.numpy(), atol=2e-5)


@pytest.mark.parametrize("pool", ["pooled", "first", "mean"])
def test_other_networks_and_other_outputs_are_vectors_too(vit: Path, clip: Path, pool: str) -> None:
    from transformers import ViTImageProcessor, ViTModel

    ready: Any = ViTImageProcessor.from_pretrained(vit)(images=pictures(), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        output: Any = ViTModel.from_pretrained(vit)(pixel_values=ready)
    tokens = output.last_hidden_state
    told = {"pooled": output.pooler_output, "first": tokens[:, 0], "mean": tokens.mean(1)}[pool]
    np.testing.assert_allclose(seen(config_of(vit, pool=pool), pictures()), told.numpy(), atol=2e-5)
    assert seen(config_of(clip, pool=pool), pictures()).shape == (3, 16)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 20}, "do_center_crop": True},
        {"size": {"height": 20, "width": 28}, "do_center_crop": False, "resample": 2},
        {"size": {"shortest_edge": 24}, "crop_size": {"height": 16, "width": 24}, "resample": 0},
    ],
    ids=["shortest edge and crop", "both sides, bilinear", "a crop that is no square, nearest"],
)
def test_pictures_are_prepared_as_transformers_does(settings: dict, tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor

    CLIPImageProcessor(**settings).save_pretrained(tmp_path)
    theirs: Any = CLIPImageProcessor.from_pretrained(tmp_path)
    ours = read_preparation(tmp_path)
    for image in pictures():
        told = np.asarray(theirs(images=[image], return_tensors="np")["pixel_values"][0])
        np.testing.assert_allclose(ours(image), told, atol=2e-5)


def test_the_batch_does_not_matter(vit: Path) -> None:
    alone = np.concatenate([seen(config_of(vit), [image]) for image in pictures()])
    np.testing.assert_allclose(seen(config_of(vit), pictures()), alone, atol=1e-5)


def test_a_network_is_named_by_what_it_is_and_never_fid(vit: Path, tmp_path: Path) -> None:
    import shutil

    name = config_of(vit).network
    assert name.startswith("ViTModel of digest ")
    assert name.endswith(", pooled")
    assert config_of(shutil.copytree(vit, tmp_path / "moved")).network == name, "no path is in it"
    hub = {"weights": {"model": "facebook/dinov2-small", "revision": "ab" * 20}, "pool": "first"}
    assert EmbeddingConfig.model_validate(hub).network == "facebook/dinov2-small at abababab, first"


def test_what_cannot_be_used_is_refused(vit: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no projection"):
        seen(config_of(vit, pool="projected"), pictures())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 8}))
    with pytest.raises(ModelError, match=r"preprocessor_config\.json.*image_mean"):
        read_preparation(tmp_path)
    with pytest.raises(ModelError, match="fetch it"):
        read_preparation(tmp_path / "absent")


def test_a_network_that_gives_no_numbers_is_refused(vit: Path) -> None:
    """A distance of such vectors is none, and its eigenvalues do not converge."""
    scorer = EmbeddingScorer(config_of(vit), "cpu")
    next(iter(scorer.model.parameters())).fill_(float("nan"))
    with pytest.raises(ModelError, match=r"3 of 3 vectors are not finite.*its weights are damaged"):
        scorer.score(pictures(), [""] * 3)


def test_nothing_is_done_where_the_file_says_so() -> None:
    image = pictures()[0]
    plain = Preparation({"do_resize": False, "do_normalize": False, "do_rescale": False})
    np.testing.assert_array_equal(plain(image), image.transpose(2, 0, 1).astype(np.float32))


# --- layout -----------------------------------------------------------------------------------------------------------


def test_colours_are_those_of_each_place() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:8, 56:] = (255, 0, 51)
    found = layout(image)[:192].reshape(8, 8, 3)
    assert found[0, 7].tolist() == pytest.approx([1.0, -1.0, -0.6])
    assert (found.reshape(-1, 3)[[0, 8, 63]] == -1).all()


def test_an_edge_has_a_place_and_a_direction_and_no_sign() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 40:] = 255
    edges = layout(image)[192:].reshape(4, 4, 4)
    assert (edges[:, 2, 0] > 0).all(), "the brightness changes across, in the third column of cells"
    assert edges[:, :, 1:].sum() == 0
    assert edges[:, [0, 1, 3]].sum() == 0
    np.testing.assert_allclose(layout(255 - image)[192:], layout(image)[192:], atol=1e-6)
    turned = layout(np.ascontiguousarray(image.swapaxes(0, 1)))[192:].reshape(4, 4, 4)
    assert (turned[2, :, 2] > 0).all()


def test_any_size_gives_as_many_numbers() -> None:
    rows = LayoutScorer().score([*pictures(), np.zeros((1024, 16, 3), np.uint8)], [""] * 4)
    assert {len(row) for row in rows[VECTOR.name].to_pylist()} == {4 * 256}
