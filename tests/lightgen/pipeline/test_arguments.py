"""What a caller of diffusers may give by mistake, or by right, and what is said of it."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.callbacks import PipelineCallback
from PIL import Image

from lightgen.pipeline import LightGenInpaintPipeline, LightGenPipeline

sys.path.append(str(Path(__file__).parent))
import tiny

PROMPT = "two red circles"
PICTURE = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
MASK = np.zeros((16, 16), dtype=np.uint8)
MASK[:, :8] = 255


@pytest.fixture(scope="module")
def words() -> LightGenPipeline:
    return tiny.of_words()


@pytest.fixture(scope="module")
def inpaint(words: LightGenPipeline) -> LightGenInpaintPipeline:
    made = LightGenInpaintPipeline(**words.components)
    made.set_progress_bar_config(disable=True)
    return made


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(pipeline: LightGenPipeline, **given: Any) -> np.ndarray:
    return pipeline(**{"prompt": PROMPT, "generator": seeded(1), **given}, output_type="np").images


def painted(pipeline: LightGenInpaintPipeline, image: Any, mask: Any) -> np.ndarray:
    return pipeline(PROMPT, image, mask, generator=seeded(1), output_type="np").images


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": []}, "`prompt` is an empty list"),
        ({"negative_prompt": []}, "`negative_prompt` is an empty list"),
        ({"prompt": None, "prompt_embeds": torch.zeros(0, 2, 16)}, r"shape \(0, 2, 16\)"),
        ({"prompt": None, "prompt_embeds": np.zeros((1, 2, 16))}, "has to be a tensor of floats but is .*ndarray"),
        ({"prompt_attention_mask": torch.ones(1, 2)}, "`prompt_attention_mask` belongs to `prompt_embeds`"),
        ({"negative_prompt_attention_mask": torch.ones(1, 2)}, "belongs to `negative_prompt_embeds`"),
        ({"num_inference_steps": 2.5}, "`num_inference_steps` is 2.5: "),
        ({"guidance_scale": float("nan")}, "`guidance_scale` is nan: .* finite"),
        ({"guidance_scale": float("inf")}, "`guidance_scale` is inf: .* finite"),
        ({"guidance_scale": "strong"}, "`guidance_scale` is 'strong': "),
        ({"height": -8}, "divisible by 8 but are -8 and 16"),
        ({"height": 20, "width": 31}, "You can use height 16 and width 24"),
        ({"height": 16.0}, "are 16.0 and 16"),
        ({"width": "16"}, "are 16 and '16'"),
        ({"num_images_per_prompt": 1.5}, "a whole number, but is "),
        ({"num_images_per_prompt": None}, "a whole number, but is "),
        ({"generator": 3}, "`generator` has to be a torch.Generator or a list of them but has 3"),
        ({"generator": [3]}, "`generator` has to be a torch.Generator or a list of them but has 3"),
    ],
)
def test_the_message_names_the_argument_of_the_call(
    words: LightGenPipeline, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        drawn(words, **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([1], "has to return a dict of tensors, but returned <class 'list'>"),
        ({"latents": None}, "latents as a tensor, but returned <class 'NoneType'>"),
        ({"latents": np.zeros((1, 8, 4, 4))}, "latents as a tensor, but returned .*ndarray"),
        ({"latents": torch.zeros(2, 8, 4, 4)}, r"latents of another shape: \(2, 8, 4, 4\) for \(1, 8, 4, 4\)"),
    ],
)
def test_a_callback_that_returns_no_latents_is_told_so(words: LightGenPipeline, given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        drawn(words, callback_on_step_end=lambda *_: given)


def test_a_callback_of_diffusers_says_itself_what_it_wants(words: LightGenPipeline) -> None:
    class Watch(PipelineCallback):
        def callback_fn(self, pipeline: Any, step_index: int, timesteps: int, callback_kwargs: Any) -> Any:
            seen.append(sorted(callback_kwargs))
            return callback_kwargs

        @property
        def tensor_inputs(self) -> list[str]:
            return wanted

    seen: list[list[str]] = []
    wanted = ["latents"]
    watch = Watch(cutoff_step_ratio=None, cutoff_step_index=1)
    drawn(words, callback_on_step_end=watch, callback_on_step_end_tensor_inputs=None)
    assert seen == [["latents"]] * words.num_timesteps
    wanted = ["prompt_embeds"]
    with pytest.raises(ValueError, match=r"found \['prompt_embeds'\]"):
        drawn(words, callback_on_step_end=watch)


@pytest.mark.parametrize("scale", [0, 0.5, -3.0])
def test_without_guidance_the_prompt_is_still_followed(words: LightGenPipeline, scale: float) -> None:
    """Diffusers guides above 1 only; 0 is how its users switch guidance off."""
    assert np.array_equal(drawn(words, guidance_scale=scale), drawn(words, guidance_scale=1.0))
    assert not np.array_equal(drawn(words, guidance_scale=scale), drawn(words, prompt="a cross", guidance_scale=scale))


def test_tuples_and_numpy_numbers_are_taken(words: LightGenPipeline) -> None:
    two = drawn(words, prompt=(PROMPT, "a cross"), generator=(seeded(1), seeded(2)), height=np.int64(16))
    assert np.allclose(two[:1], drawn(words), atol=1e-6)


def test_a_vae_answers_as_those_of_diffusers(words: LightGenPipeline) -> None:
    pixels = torch.zeros(1, 3, 16, 16)
    latents = words.vae.encode(pixels, return_dict=False)[0].mode()
    assert torch.equal(latents, words.vae.encode(pixels).latent_dist.mode())
    assert torch.equal(words.vae.decode(latents, return_dict=False)[0], words.vae.decode(latents).sample)


def test_components_that_cannot_draw_together_are_refused(words: LightGenPipeline, tmp_path: Path) -> None:
    other = tiny.of_t5(tmp_path / "t5").vae
    with pytest.raises(ValueError, match="draws latents of 8 channels, but `vae` reads 4"):
        LightGenPipeline(**{**words.components, "vae": other})
    for name in ("student", "vae"):
        with pytest.raises(ValueError, match="one of `student` and `vae` is None"):
            LightGenPipeline(**{**words.components, name: None})


@pytest.mark.parametrize("given", [3, []])
def test_what_is_no_text_is_not_encoded(words: LightGenPipeline, given: Any) -> None:
    with pytest.raises(ValueError, match="`prompt`"):
        words.encode_prompt(given)


def test_components_are_brought_where_they_work_when_they_are_offloaded(tmp_path: Path) -> None:
    pipeline = tiny.of_t5(tmp_path / "t5")
    pipeline.load_text_encoder()
    expected = drawn(pipeline, negative_prompt="a cross")
    pipeline.enable_model_cpu_offload(device="cpu")
    brought: list[str] = []
    for name in ("text_encoder", "student", "vae"):
        hook = getattr(pipeline, name)._hf_hook
        before = hook.pre_forward
        hook.pre_forward = lambda *given, name=name, before=before, **named: (
            brought.append(name) or before(*given, **named)
        )
    assert np.array_equal(drawn(pipeline, negative_prompt="a cross"), expected)
    assert list(dict.fromkeys(brought)) == ["text_encoder", "student", "vae"]
    assert brought == sorted(brought, key=["text_encoder", "student", "vae"].index)  # each leaves before the next


@pytest.mark.parametrize("kind", ["whole", "bool", "tensor", "bool tensor", "one"])
def test_masks_of_any_kind_of_number_are_the_same(inpaint: LightGenInpaintPipeline, kind: str) -> None:
    masks: dict[str, Any] = {
        "whole": MASK, "bool": MASK > 0, "tensor": torch.from_numpy(MASK), "bool tensor": torch.from_numpy(MASK > 0),
        "one": MASK // 255,
    }  # fmt: skip
    picture = Image.fromarray(PICTURE)
    assert np.array_equal(painted(inpaint, picture, masks[kind]), painted(inpaint, picture, Image.fromarray(MASK)))


def test_a_grey_mask_of_whole_numbers_has_its_edge_at_half(inpaint: LightGenInpaintPipeline) -> None:
    faint = MASK.copy()
    faint[:, 8:] = 3
    picture = Image.fromarray(PICTURE)
    assert np.array_equal(painted(inpaint, picture, faint), painted(inpaint, picture, MASK))


def test_pictures_of_any_kind_are_read_as_what_they_show(inpaint: LightGenInpaintPipeline) -> None:
    expected = painted(inpaint, Image.fromarray(PICTURE), MASK)
    assert np.abs(painted(inpaint, PICTURE, MASK) - expected).max() < 1e-6
    assert np.abs(painted(inpaint, torch.from_numpy(PICTURE).movedim(2, 0), MASK) - expected).max() < 1e-6
    assert np.array_equal(painted(inpaint, Image.fromarray(PICTURE).convert("RGBA"), MASK), expected)
    grey = Image.fromarray(PICTURE).convert("L")
    assert np.array_equal(painted(inpaint, grey, MASK), painted(inpaint, grey.convert("RGB"), MASK))
    black = np.eye(16, dtype=np.uint8)[..., None].repeat(3, axis=-1)
    assert np.array_equal(painted(inpaint, black, MASK), painted(inpaint, Image.fromarray(black), MASK))
    lit = black > 0
    assert np.array_equal(painted(inpaint, lit, MASK), painted(inpaint, lit.astype(np.float32), MASK))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("picture.png", "`image` has to be PIL, NumPy or torch, or a list of them, but is 'picture.png'"),
        ([], "has to be PIL, NumPy or torch"),
        (PICTURE.astype(np.float32), r"`image` holds 255, but floats are in 0..1"),
        (PICTURE[..., 0], r"`image` has shape \(16, 16\): arrays are \[h, w, 3\]"),
        (Image.fromarray(PICTURE).resize((17, 19)), "You can use height 16 and width 16"),
    ],
)
def test_what_is_no_picture_is_a_value_error(inpaint: LightGenInpaintPipeline, image: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        painted(inpaint, image, MASK)


def test_an_interruption_ends_the_drawing_of_all_prompts(inpaint: LightGenInpaintPipeline) -> None:
    """Masks that differ are drawn one after the other; what follows is left as the picture has it."""

    def stop(pipe: Any, step: int, left: int, tensors: Any) -> Any:
        steps.append(step)
        pipe._interrupt = True
        return tensors

    steps: list[int] = []
    pictures, masks = [Image.fromarray(PICTURE)] * 2, [MASK, MASK[:, ::-1].copy()]
    made = inpaint([PROMPT, PROMPT], pictures, masks, callback_on_step_end=stop, output_type="np").images
    assert steps == [0]
    assert np.abs(made[1] - PICTURE / 255).max() < 1
    assert inpaint([PROMPT, PROMPT], pictures, masks, output_type="latent").images.shape == (2, 8, 4, 4)
    assert not inpaint.interrupt
