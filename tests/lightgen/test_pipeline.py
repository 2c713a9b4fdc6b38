"""The pipeline: what a user of diffusers would type, from a checkpoint and from a folder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightgen.errors import ConfigError, ModelError
from lightgen.generators.sampler import Sampler
from lightgen.pipeline import LightGenPipeline
from lightgen.seeds import derive_seed
from tests.lightgen.conftest import SAMPLE, Chain


@pytest.fixture(scope="module")
def pipeline(chain: Chain) -> LightGenPipeline:
    return LightGenPipeline.from_checkpoint(chain.store.uri, f"checkpoint@{chain.checkpoint.version}")


def array(pipeline: LightGenPipeline, *given, **named) -> np.ndarray:
    found = pipeline(*given, **named, output_type="np").images
    assert isinstance(found, np.ndarray)
    return found


def test_images_are_those_of_the_sampler(pipeline: LightGenPipeline, chain: Chain) -> None:
    prompts = ["a red circle", "two squares"]
    found = array(pipeline, prompts, num_images_per_prompt=2, seed=5)
    sampler = Sampler.from_checkpoint(chain.store.open(chain.checkpoint), chain.store)
    seeds = [derive_seed(5, "image", prompt, index) for prompt in prompts for index in range(2)]
    assert np.array_equal(found, sampler.images([p for p in prompts for _ in range(2)], seeds, SAMPLE))


def test_a_folder_gives_the_same_images(pipeline: LightGenPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "a")
    again = LightGenPipeline.from_pretrained(tmp_path / "a")
    assert np.array_equal(array(again, "a red circle"), array(pipeline, "a red circle"))
    again.save_pretrained(tmp_path / "b")
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes() for name in names)


def test_an_image_does_not_depend_on_what_else_is_drawn(pipeline: LightGenPipeline) -> None:
    together = array(pipeline, ["a cross", "a red circle"])
    alone = array(pipeline, "a red circle")
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1  # a batch may move the last bit
    assert not np.array_equal(array(pipeline, "a red circle", seed=1), alone)


def test_a_generator_gives_the_seed(pipeline: LightGenPipeline) -> None:
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    first, same, next_ = (array(pipeline, "a cross", generator=generator) for generator in (one, other, other))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, next_)


def test_settings_of_the_call(pipeline: LightGenPipeline) -> None:
    plain = array(pipeline, "a red circle")
    assert not np.array_equal(array(pipeline, "a red circle", guidance_scale=1.0), plain)
    assert not np.array_equal(array(pipeline, "a red circle", negative_prompt="a blue square"), plain)
    seen: list[tuple[int, tuple[int, ...]]] = []
    wide = array(
        pipeline, "a red circle", height=32, width=48, num_inference_steps=6,
        callback=lambda step, tokens: seen.append((step, tuple(tokens.shape))),
    )  # fmt: skip
    assert wide.shape == (1, 32, 48, 3)
    assert [step for step, _ in seen] == list(range(6))
    assert seen[0][1][:2] == (1, 24)


def test_a_negative_prompt_equal_to_the_prompt_is_no_guidance(pipeline: LightGenPipeline) -> None:
    """eps_u + s (eps_c - eps_u) with both alike is eps_c, whatever the scale."""
    guided = array(pipeline, "a red circle", negative_prompt="a red circle", guidance_scale=7.0)
    assert np.abs(guided.astype(int) - array(pipeline, "a red circle", guidance_scale=1.0)).max() <= 1


def test_output_types(pipeline: LightGenPipeline) -> None:
    (image,) = pipeline("a cross").images
    assert isinstance(image, Image.Image)
    tensor = pipeline("a cross", output_type="pt").images
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(np.asarray(image), tensor[0].numpy())


def test_wrong_folders_are_refused(pipeline: LightGenPipeline, chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no model_index\.json"):
        LightGenPipeline.from_pretrained(tmp_path)
    pipeline.save_pretrained(tmp_path / "good")
    with pytest.raises(ConfigError, match="not empty; nothing was written"):
        pipeline.save_pretrained(tmp_path / "good")
    for victim in ("student/model.safetensors", "vae/vae.safetensors", "text/config.json", "student/config.json"):
        broken = Path(shutil.copytree(tmp_path / "good", tmp_path / victim.replace("/", "-")))
        (broken / victim).write_bytes(b"{")
        with pytest.raises(ModelError, match="not a usable LightGenPipeline"):
            LightGenPipeline.from_pretrained(broken)
        (broken / victim).unlink()
        with pytest.raises(ModelError):
            LightGenPipeline.from_pretrained(broken)
    with pytest.raises(ConfigError, match="of kind images"):
        LightGenPipeline.from_checkpoint(chain.store.uri, f"images@{chain.images.version}")
