"""The pipeline, used as a user of diffusers would: from a checkpoint, from a folder, from a hub, in a fresh process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from lightgen.encoders.tiny import tiny_t5
from lightgen.errors import ConfigError, ModelError
from lightgen.generators.sampler import Sampler
from lightgen.model.sampling import RedrawConfig
from lightgen.pipeline import LightGenInpaintPipeline, LightGenPipeline
from lightgen.pipeline.components import DecodingScheduler
from tests.lightgen.conftest import SAMPLE, Chain
from tests.lightgen.pipeline.hub import serving
from tests.lightgen.pipeline.tiny import SAMPLE as TINY
from tests.lightgen.pipeline.tiny import SIZE_PX, of_t5, of_words

ROOT = Path(__file__).parents[3]
PROMPT = "a red circle"
FRESH = """
import sys
import numpy as np, torch
torch.set_num_threads(1)
place, to, way = sys.argv[1:]
if way == "own":
    from lightgen.pipeline import LightGenPipeline
    pipeline = LightGenPipeline.from_pretrained(place)
else:
    from diffusers import DiffusionPipeline
    pipeline = DiffusionPipeline.from_pretrained(place, custom_pipeline="pipeline", trust_remote_code=True)
images = pipeline(["a red circle"], generator=torch.Generator().manual_seed(7), output_type="np").images
np.save(to, images)
print(type(pipeline).__name__, sorted(name for name, part in pipeline.components.items() if part is not None))
"""


@pytest.fixture(scope="module")
def words() -> LightGenPipeline:
    return of_words()


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def array(pipeline: LightGenPipeline, *given: Any, **named: Any) -> np.ndarray:
    found = pipeline(*given, **named, output_type="np").images
    assert isinstance(found, np.ndarray)
    return found


def fresh(place: Path | str, folder: Path, way: str = "own", **environment: str) -> tuple[np.ndarray, str]:
    """What a process of its own draws, and what it says of its pipeline; it writes to `folder`."""
    command = [sys.executable, "-c", FRESH, str(place), str(folder / "images.npy"), way]
    caches = {"HF_HOME": str(folder / "home"), "HF_MODULES_CACHE": str(folder / "modules")}
    settings = {**os.environ, **caches, "PYTHONPATH": str(ROOT), **environment}
    told = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return np.load(folder / "images.npy"), told.stdout.strip()


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal but for what the size of a batch does to the last bits."""
    return one.shape == other.shape and float(np.abs(one - other).max()) < 1e-3


def test_images_are_those_of_the_sampler(chain: Chain) -> None:
    pipeline = LightGenPipeline.from_checkpoint(chain.store.uri, f"checkpoint@{chain.checkpoint.version}")
    pipeline.set_progress_bar_config(disable=True)
    found = array(pipeline, [PROMPT, "two squares"], num_images_per_prompt=2, generator=seeded(5))
    generator = seeded(5)
    seeds = [int(torch.randint(2**63 - 1, (), generator=generator)) for _ in range(4)]
    sampler = Sampler.from_checkpoint(chain.store.open(chain.checkpoint), chain.store)
    expected = sampler.images([PROMPT, PROMPT, "two squares", "two squares"], seeds, SAMPLE)
    assert np.abs(found * 255 - expected).max() <= 1


@pytest.mark.parametrize("way", ["own", "diffusers"])
@pytest.mark.parametrize("kind", ["words", "t5 named", "t5 saved"])
def test_a_folder_gives_the_same_images_in_a_fresh_process(
    way: str, kind: str, tmp_path: Path, t5_folder: Path
) -> None:
    pipeline = of_words() if kind == "words" else of_t5(t5_folder)
    if kind == "t5 saved":
        pipeline.load_text_encoder()
    pipeline.save_pretrained(tmp_path / "folder")
    assert (tmp_path / "folder" / "text_encoder").is_dir() == (kind == "t5 saved")
    images, told = fresh(tmp_path / "folder", tmp_path, way)
    assert np.array_equal(images, array(pipeline, [PROMPT], generator=seeded(7)))
    parts = ["scheduler", "student", "vae"] + (["text_encoder", "tokenizer"] if kind != "words" else [])
    assert told == f"LightGenPipeline {sorted(parts)}"


def test_a_folder_that_is_saved_again_is_the_same(words: LightGenPipeline, tmp_path: Path) -> None:
    words.save_pretrained(tmp_path / "a")
    LightGenPipeline.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert Path("pipeline.py") in names
    weights = [name for name in names if name.suffix == ".safetensors"]
    assert len(weights) == 2
    assert all((tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes() for name in weights)
    assert json.loads((tmp_path / "b" / "model_index.json").read_text())["_class_name"] == "LightGenPipeline"


def test_a_repository_of_the_hub_is_loaded_by_its_id(words: LightGenPipeline, tmp_path: Path) -> None:
    words.save_pretrained(tmp_path / "folder")
    with serving(tmp_path / "folder", "owner/student") as endpoint:
        images, _ = fresh("owner/student", tmp_path, HF_ENDPOINT=endpoint, HF_HUB_DISABLE_XET="1", HF_HUB_OFFLINE="0")
    assert np.array_equal(images, array(words, [PROMPT], generator=seeded(7)))


def test_a_text_encoder_may_be_given_or_left_out(t5_folder: Path, tmp_path: Path) -> None:
    whole = of_t5(t5_folder)
    whole.save_pretrained(tmp_path / "folder")
    settings = tmp_path / "folder" / "student" / "config.json"
    settings.write_text(settings.read_text().replace(str(t5_folder), str(tmp_path / "gone")))
    images = array(whole, PROMPT, generator=seeded(1))
    lost = LightGenPipeline.from_pretrained(tmp_path / "folder")
    with pytest.raises((ModelError, ConfigError), match="gone"):
        lost(PROMPT)
    vectors, mask = whole.encode_prompt(PROMPT)
    assert np.array_equal(array(lost, prompt_embeds=vectors, prompt_attention_mask=mask, generator=seeded(1)), images)
    parts = {name: whole.components[name] for name in ("text_encoder", "tokenizer")}
    given = LightGenPipeline.from_pretrained(tmp_path / "folder", **parts)
    assert np.array_equal(array(given, PROMPT, generator=seeded(1)), images)


def test_two_equal_prompts_give_two_images_and_a_seed_gives_them_again(words: LightGenPipeline) -> None:
    first, second = array(words, [PROMPT, PROMPT], generator=seeded(3))
    assert np.abs(first - second).max() > 0.1
    again = array(words, PROMPT, num_images_per_prompt=2, generator=seeded(3))
    assert close(again, np.stack([first, second]))
    generator = seeded(3)
    one_by_one = [array(words, PROMPT, generator=generator)[0] for _ in range(2)]
    assert close(np.stack(one_by_one), again)


def test_without_a_generator_the_seed_is_that_of_torch(words: LightGenPipeline) -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(array(words, PROMPT))
    assert np.array_equal(drawn[0], drawn[1])
    assert not close(drawn[0], drawn[2])


def test_a_list_of_generators_is_one_an_image(words: LightGenPipeline) -> None:
    prompts = [PROMPT, "two squares", "a cross"]
    together = array(words, prompts, generator=[seeded(seed) for seed in (1, 2, 3)])
    alone = [array(words, prompt, generator=seeded(seed))[0] for prompt, seed in zip(prompts, (1, 2, 3), strict=True)]
    assert close(together, np.stack(alone))
    with pytest.raises(ValueError, match="list of generators of length 2, but requested an effective batch size of 3"):
        words(prompts, generator=[seeded(1), seeded(2)])


def test_guidance_and_negative_prompts(words: LightGenPipeline) -> None:
    def drawn(prompts: Any = PROMPT, **named: Any) -> np.ndarray:
        return array(words, prompts, generator=seeded(1), **named)

    plain = drawn()
    assert not close(drawn(guidance_scale=1.0), plain)
    away = drawn(negative_prompt="a blue square")
    assert not close(away, plain)
    # eps_u + s (eps_c - eps_u) with both alike is eps_c, whatever the scale.
    assert close(drawn(negative_prompt=PROMPT, guidance_scale=7.0), drawn(guidance_scale=1.0))
    both = drawn([PROMPT, PROMPT], negative_prompt=["a blue square", "a cross"])
    assert close(both[:1], away)
    same = drawn([PROMPT, PROMPT], negative_prompt="a blue square")
    assert close(same[:1], away)
    assert not close(same[1:], both[1:])


def test_embeddings_stand_for_prompts(words: LightGenPipeline) -> None:
    vectors, mask = words.encode_prompt([PROMPT, "one two three four five"])
    assert mask.sum(1).tolist() == [3, 5]
    negative, negative_mask = words.encode_prompt("a cross")
    given = array(
        words, prompt_embeds=vectors, prompt_attention_mask=mask, negative_prompt_embeds=negative,
        negative_prompt_attention_mask=negative_mask, generator=seeded(2),
    )  # fmt: skip
    told = array(words, [PROMPT, "one two three four five"], negative_prompt="a cross", generator=seeded(2))
    assert np.array_equal(given, told)
    assert not close(array(words, prompt_embeds=vectors, generator=seeded(2)), told)  # padding taken for words


def test_a_callback_sees_every_step_and_may_change_the_latents(words: LightGenPipeline) -> None:
    seen: list[tuple[int, int, tuple[int, ...]]] = []

    def look(pipe: LightGenPipeline, step: int, left: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        seen.append((step, left, tuple(tensors["latents"].shape)))
        return {}

    def replace(pipe: LightGenPipeline, step: int, left: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {"latents": torch.zeros_like(tensors["latents"])} if left == 0 else tensors

    plain = array(words, PROMPT, generator=seeded(1), height=16, width=24, num_inference_steps=5)
    watched = array(
        words, PROMPT, generator=seeded(1), height=16, width=24, num_inference_steps=5, callback_on_step_end=look
    )  # fmt: skip
    assert np.array_equal(watched, plain)
    assert [step for step, _, _ in seen] == list(range(5)) == list(range(words.num_timesteps))
    assert [left for _, left, _ in seen] == sorted((left for _, left, _ in seen), reverse=True)
    assert seen[0][1] < 6
    assert seen[-1][1:] == (0, (1, 8, 4, 6))
    emptied = words(PROMPT, callback_on_step_end=replace, output_type="latent").images
    assert isinstance(emptied, torch.Tensor)
    assert emptied.abs().max() == 0


def test_tokens_that_are_drawn_again_are_steps_too(words: LightGenPipeline) -> None:
    scheduler = DecodingScheduler.of(TINY.model_copy(update={"redraw": RedrawConfig(sweeps=2, head_steps=2)}))
    again = type(words)(**{**words.components, "scheduler": scheduler})
    again.set_progress_bar_config(disable=True)
    seen: list[tuple[int, int]] = []

    def note(_: object, step: int, left: int, __: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append((step, left))
        return {}

    once = words(PROMPT, generator=seeded(1), output_type="latent").images
    twice = again(PROMPT, generator=seeded(1), output_type="latent", callback_on_step_end=note)
    assert [step for step, _ in seen] == list(range(again.num_timesteps))
    assert again.num_timesteps > words.num_timesteps
    assert seen[-1][1] == 0
    assert not torch.equal(once, twice.images)


def test_a_callback_may_stop_the_drawing(words: LightGenPipeline) -> None:
    steps: list[int] = []

    def stop(pipe: LightGenPipeline, step: int, left: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        steps.append(step)
        pipe._interrupt = step == 1
        return {}

    partly = words(PROMPT, callback_on_step_end=stop, output_type="latent", generator=seeded(1)).images
    assert isinstance(partly, torch.Tensor)
    assert steps == [0, 1]
    assert words.interrupt
    whole = words(PROMPT, output_type="latent", generator=seeded(1)).images
    assert isinstance(whole, torch.Tensor)
    kept = partly != 0
    assert 0 < kept.float().mean() < 1
    assert torch.equal(partly[kept], whole[kept])


def test_output_types_have_the_shapes_and_ranges_of_diffusers(words: LightGenPipeline) -> None:
    def drawn(output_type: str) -> Any:
        return words([PROMPT, "a cross"], height=16, width=24, generator=seeded(1), output_type=output_type)

    arrays, tensors, pictures = drawn("np").images, drawn("pt")[0], drawn("pil").images
    assert arrays.shape == (2, 16, 24, 3)
    assert (arrays.dtype, tensors.dtype) == (np.float32, torch.float32)
    assert arrays.min() >= 0
    assert arrays.max() <= 1
    assert np.array_equal(tensors.permute(0, 2, 3, 1).numpy(), arrays)
    assert all(isinstance(picture, Image.Image) and picture.size == (24, 16) for picture in pictures)
    assert np.array_equal(np.asarray(pictures[0]), (arrays[0] * 255).round().astype(np.uint8))
    latents = drawn("latent").images
    assert latents.shape == (2, 8, 4, 6)
    decoded = words.vae.decode(latents / words.vae.config.scaling_factor).sample
    assert np.allclose(decoded.detach().permute(0, 2, 3, 1) / 2 + 0.5, arrays, atol=1e-6) or decoded.abs().max() > 1
    as_tuple = words(PROMPT, return_dict=False, output_type="np", generator=seeded(1))
    assert isinstance(as_tuple, tuple)
    assert np.array_equal(as_tuple[0], array(words, PROMPT, generator=seeded(1)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Provide either `prompt` or `prompt_embeds`"),
        ({"prompt": PROMPT, "prompt_embeds": torch.zeros(1, 2, 16)}, "Cannot forward both `prompt`"),
        ({"prompt": 3}, "has to be of type `str` or `list`"),
        ({"prompt": PROMPT, "output_type": "jpeg"}, "`output_type` has to be one of pil, np, pt, latent"),
        ({"prompt": PROMPT, "height": 20}, "divisible by 8 but are 20 and 16"),
        ({"prompt": [PROMPT] * 3, "negative_prompt": ["a", "b"]}, "2 texts, but there are 3 prompts"),
        ({"prompt_embeds": torch.zeros(1, 2, 15)}, r"the student reads \[b, l, 16\]"),
        ({"prompt_embeds": torch.zeros(1, 2, 16), "prompt_attention_mask": torch.ones(1, 3)}, "attention_mask"),
        ({"prompt": PROMPT, "num_images_per_prompt": 0}, "has to be at least 1"),
        ({"prompt": PROMPT, "num_inference_steps": 0}, "`num_inference_steps` is 0: "),
        ({"prompt": PROMPT, "callback_on_step_end_tensor_inputs": ["noise"]}, r"found \['noise'\]"),
    ],
)
def test_what_does_not_fit_is_a_value_error(words: LightGenPipeline, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        words(**given)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["words", "t5"])
def test_half_precision_draws_nearly_the_same(dtype: torch.dtype, kind: str, t5_folder: Path, tmp_path: Path) -> None:
    make: Callable[[], LightGenPipeline] = of_words if kind == "words" else lambda: of_t5(t5_folder)
    whole = make()
    whole.load_text_encoder()
    whole.save_pretrained(tmp_path / "folder")
    expected = array(whole, PROMPT, generator=seeded(1), height=16, width=24)
    named = "dtype" if kind == "words" else "torch_dtype"  # diffusers takes both, the second with a warning
    loaded = LightGenPipeline.from_pretrained(tmp_path / "folder", **{named: dtype})
    for half in (loaded, make().to(dtype)):
        assert half.dtype == dtype
        assert half.device == torch.device("cpu")
        drawn = array(half, PROMPT, generator=seeded(1), height=16, width=24)
        assert np.isfinite(drawn).all()
        assert 0 < np.abs(drawn - expected).mean() < 0.02
    other = array(whole, PROMPT, generator=seeded(2), height=16, width=24)
    assert np.abs(other - expected).mean() > 0.05  # the null control: another image is not nearly the same


def test_a_vae_that_overflows_in_float16_is_run_in_float32_and_left_as_it_was(t5_folder: Path) -> None:
    pipeline = of_t5(t5_folder).to(torch.float16)
    assert pipeline.vae.config.force_upcast
    seen: list[torch.dtype] = []
    pipeline.vae.decoder.register_forward_pre_hook(lambda module, given: seen.append(given[0].dtype))
    array(pipeline, PROMPT)
    assert seen == [torch.float32]
    assert pipeline.vae.dtype == torch.float16


def test_components_make_another_pipeline(words: LightGenPipeline) -> None:
    assert set(words.components) == {"student", "scheduler", "vae", "text_encoder", "tokenizer"}
    other = LightGenPipeline(**words.components)
    other.set_progress_bar_config(disable=True)
    assert other.student is words.student
    assert np.array_equal(array(other, PROMPT, generator=seeded(1)), array(words, PROMPT, generator=seeded(1)))
    assert isinstance(LightGenInpaintPipeline(**words.components), DiffusionPipeline)


def test_the_progress_bar_can_be_switched_off(words: LightGenPipeline, capfd: pytest.CaptureFixture[str]) -> None:
    loud = LightGenPipeline(**words.components)
    loud(PROMPT)
    assert "4/4" in capfd.readouterr().err
    loud.set_progress_bar_config(disable=True)
    loud(PROMPT)
    assert capfd.readouterr().err == ""


def test_a_folder_of_the_first_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "LightGenPipeline", "format": 1, "size_px": 16}')
    (tmp_path / "sampling.json").write_text("{}")
    with pytest.raises(ModelError, match=r"written by version 0\.1; write it again: lightgen export"):
        LightGenPipeline.from_pretrained(tmp_path)


def test_only_a_checkpoint_makes_a_pipeline(chain: Chain) -> None:
    with pytest.raises(ConfigError, match="of kind images"):
        LightGenPipeline.from_checkpoint(chain.store.uri, f"images@{chain.images.version}")


def test_a_student_of_words_takes_no_text_encoder(words: LightGenPipeline, t5_folder: Path) -> None:
    other = of_t5(t5_folder)
    other.load_text_encoder()
    with pytest.raises(ValueError, match="takes no text encoder"):
        LightGenPipeline(**{**words.components, "text_encoder": other.text_encoder})
    with pytest.raises(ValueError, match="without its tokenizer"):
        LightGenPipeline(**{**other.components, "tokenizer": None})(PROMPT)


def test_sizes_are_those_of_training_unless_given(words: LightGenPipeline) -> None:
    assert array(words, PROMPT).shape == (1, SIZE_PX, SIZE_PX, 3)
    assert array(words, PROMPT, height=32, width=8).shape == (1, 32, 8, 3)


def test_the_command_line_does_not_import_diffusers() -> None:
    told = "import sys, lightgen.cli; print('diffusers' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "False"
