"""Inpainting as a user of diffusers would."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lightgen.generators.inpainting import inpaint
from lightgen.generators.sampler import Sampler
from lightgen.pipeline import LightGenInpaintPipeline, LightGenPipeline
from tests.lightgen.conftest import SAMPLE, SIZE_PX, Chain
from tests.lightgen.pipeline.tiny import of_words

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
MASK = np.zeros((16, 24), dtype=bool)
MASK[3:7, 2:9] = True


@pytest.fixture(scope="module")
def pipeline() -> LightGenInpaintPipeline:
    made = LightGenInpaintPipeline(**of_words().components)
    made.set_progress_bar_config(disable=True)
    return made


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_pil(mask: np.ndarray) -> Image.Image:
    return Image.fromarray((mask * 255).astype(np.uint8))


def painted(pipeline: LightGenInpaintPipeline, prompt: Any = "a cross", **named: Any) -> np.ndarray:
    given = {"image": Image.fromarray(PICTURE), "mask_image": as_pil(MASK), "generator": seeded(1), **named}
    return np.stack([np.asarray(image) for image in pipeline(prompt, **given).images])


def test_pixels_outside_the_mask_are_kept_to_the_last_bit(pipeline: LightGenInpaintPipeline) -> None:
    found = painted(pipeline, num_images_per_prompt=2)
    assert found.shape == (2, 16, 24, 3)
    assert (found[:, ~MASK] == PICTURE[~MASK]).all()
    assert (found[:, MASK] != PICTURE[MASK]).mean() > 0.9
    assert (found[0] != found[1]).any()


def test_arrays_and_tensors_are_taken_like_pictures(pipeline: LightGenInpaintPipeline) -> None:
    expected = painted(pipeline)
    floats = PICTURE.astype(np.float32) / 255
    arrays = painted(pipeline, image=floats[None], mask_image=MASK.astype(np.float32)[None, :, :, None])
    assert np.array_equal(arrays, expected)
    tensors = painted(
        pipeline, image=torch.from_numpy(floats).permute(2, 0, 1), mask_image=torch.from_numpy(MASK).float()[None]
    )
    assert np.array_equal(tensors, expected)
    smooth = pipeline("a cross", Image.fromarray(PICTURE), as_pil(MASK), generator=seeded(1), output_type="pt").images
    assert isinstance(smooth, torch.Tensor)
    assert np.array_equal((smooth * 255).round().byte().permute(0, 2, 3, 1).numpy(), expected)


def test_one_mask_an_image_draws_what_each_would_alone(pipeline: LightGenInpaintPipeline) -> None:
    other = np.zeros_like(MASK)
    other[8:, 12:] = True
    mirrored = Image.fromarray(PICTURE[:, ::-1].copy())
    together = painted(
        pipeline, ["a cross", "a circle"], image=[Image.fromarray(PICTURE), mirrored],
        mask_image=[as_pil(MASK), as_pil(other)], generator=[seeded(1), seeded(2)],
    )  # fmt: skip
    first = painted(pipeline, "a cross")
    second = painted(pipeline, "a circle", image=mirrored, mask_image=as_pil(other), generator=seeded(2))
    assert np.array_equal(together, np.concatenate([first, second]))


def test_it_is_the_method_of_the_command_line(chain: Chain) -> None:
    made = LightGenPipeline.from_checkpoint(chain.store.uri, f"checkpoint@{chain.checkpoint.version}")
    pipeline = LightGenInpaintPipeline(**made.components)
    pipeline.set_progress_bar_config(disable=True)
    picture = np.random.default_rng(1).integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
    mask = np.zeros((SIZE_PX, SIZE_PX), bool)
    mask[10:20, 4:12] = True
    found = painted(pipeline, image=Image.fromarray(picture), mask_image=as_pil(mask))
    seed = int(torch.randint(2**63 - 1, (), generator=seeded(1)))
    sampler = Sampler.from_checkpoint(chain.store.open(chain.checkpoint), chain.store)
    expected = inpaint(sampler, picture, mask, ["a cross"], [seed], SAMPLE)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_callback_and_latents(pipeline: LightGenInpaintPipeline) -> None:
    steps: list[int] = []
    pipeline(
        "a cross", Image.fromarray(PICTURE), as_pil(MASK),
        callback_on_step_end=lambda pipe, step, left, tensors: steps.append(step) or {},
    )  # fmt: skip
    assert steps == list(range(pipeline.num_timesteps))
    latents = pipeline("a cross", Image.fromarray(PICTURE), as_pil(MASK), output_type="latent").images
    assert isinstance(latents, torch.Tensor)
    assert latents.shape == (1, 8, 4, 6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image": None}, "have to be given"),
        ({"mask_image": as_pil(np.zeros_like(MASK))}, "covers nothing"),
        ({"image": [Image.fromarray(PICTURE)] * 3}, "`image` has 3 images, but there are 2 prompts"),
        ({"mask_image": [as_pil(MASK)] * 3}, "`mask_image` has 3 images, but there are 2 prompts"),
        ({"height": 20}, "divisible by 8"),
        ({"output_type": "file"}, "`output_type`"),
    ],
)
def test_what_does_not_fit_is_a_value_error(
    pipeline: LightGenInpaintPipeline, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        painted(pipeline, ["a cross", "a circle"], **given)
