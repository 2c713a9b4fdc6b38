"""Teacher `flux` on a tiny random FLUX.1 of the real classes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lightgen.errors import ConfigError, ModelError
from lightgen.generators.base import TeacherFailure
from lightgen.generators.flux import FluxConfig, FluxTeacher
from tests.tiny_models import tiny_flux

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CAPTIONS = ["a red cat", "two blue dogs on the left", "a yellow circle"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def settings(folder: Path, **changes) -> FluxConfig:
    base = {"model": str(folder), "steps": 2, "max_tokens": 24, "dtype": "float32", "device": "cpu"}
    return FluxConfig(**{**base, **changes})


@pytest.fixture(scope="module")
def teacher(saved: Path) -> FluxTeacher:
    return FluxTeacher(settings(saved))


def test_it_paints_what_the_pipeline_paints(saved: Path, teacher: FluxTeacher) -> None:
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

    pipeline = FluxPipeline.from_pretrained(saved, dtype=torch.float32)
    expected = pipeline(
        CAPTIONS[0],
        height=48,
        width=48,
        num_inference_steps=2,
        guidance_scale=3.5,
        max_sequence_length=24,
        generator=torch.Generator("cpu").manual_seed(5),
    ).images[0]
    (image,) = teacher.generate([CAPTIONS[0]], [5], 48)
    assert np.array_equal(image, np.asarray(expected))


def test_an_image_does_not_depend_on_its_batch(teacher: FluxTeacher) -> None:
    together = teacher.generate(CAPTIONS, [3, 2**62, 5], 64)
    for caption, seed, image in zip(CAPTIONS, [3, 2**62, 5], together, strict=True):
        (alone,) = teacher.generate([caption], [seed], 64)
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        # Sums of floats may differ in their last bit between batch sizes, which can move a value over a rounding edge.
        assert np.abs(alone.astype(int) - image).max() <= 1


def test_seed_and_caption_both_count(teacher: FluxTeacher) -> None:
    one, other_seed = teacher.generate(["a red cat"] * 2, [1, 2], 32)
    (other_caption,) = teacher.generate(["a blue dog"], [1], 32)
    assert not np.array_equal(one, other_seed)
    assert not np.array_equal(one, other_caption)


def test_overflow_is_a_failure_of_its_rows(saved: Path) -> None:
    broken = FluxTeacher(settings(saved))
    with torch.no_grad():
        broken._pipeline.vae.decoder.conv_out.bias[1] = float("nan")
    (outcome,) = broken.generate(["a cat"], [1], 32)
    assert isinstance(outcome, TeacherFailure)
    assert outcome.reason == "nonfinite"
    assert "1024 of 3072" in outcome.detail


def test_identity_names_weights_and_settings_but_no_machine(folder: Path, teacher: FluxTeacher) -> None:
    first = teacher.identity()
    assert set(first["weights"]) == {"transformer", "text_encoder", "text_encoder_2", "vae"}
    assert set(first["libraries"]) == {"diffusers", "torch", "transformers"}
    assert {**FluxTeacher(settings(folder)).identity(), "model": ""} == {**first, "model": ""}
    assert FluxTeacher(settings(folder, steps=3)).identity() != first
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"shift": 3.0', '"shift": 2.0'))
    assert FluxTeacher(settings(folder)).identity()["settings"] != first["settings"]


def test_identity_sees_one_changed_weight(folder: Path, teacher: FluxTeacher) -> None:
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = FluxTeacher(settings(folder)).identity()["weights"]
    same = teacher.identity()["weights"]
    assert {name for name in same if changed[name] != same[name]} == {"transformer"}


def test_speed_settings_are_no_content(saved: Path) -> None:
    assert settings(saved, device="cpu", offload="model").content() == settings(saved, device="cuda").content()
    assert settings(saved, guidance=1.0).content() != settings(saved).content()


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:7]])
def test_row_47_a_hub_id_needs_a_commit(revision: str | None) -> None:
    with pytest.raises(ConfigError, match=r"RevisionNotPinned.*40 digits"):
        FluxTeacher(FluxConfig(revision=revision)).identity()


def test_a_pinned_hub_id_is_known_by_its_commit() -> None:
    identity = FluxTeacher(FluxConfig(revision=COMMIT)).identity()
    assert identity["model"] == "black-forest-labs/FLUX.1-dev"
    assert identity["revision"] == COMMIT


def test_row_42_pickled_weights_are_refused(folder: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ConfigError, match=r"UnsafeWeights.*save_pretrained"):
        FluxTeacher(settings(folder)).identity()
    with pytest.raises(ModelError, match="safetensors"):
        FluxTeacher(settings(folder)).generate(["a cat"], [1], 32)


@pytest.mark.parametrize("damage", ["header", "cut", "trailing"])
def test_row_41_broken_weights_are_refused(folder: Path, damage: str) -> None:
    weights = folder / "text_encoder" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(
        {"header": (1 << 60).to_bytes(8, "little") + data[8:], "cut": data[:-9], "trailing": data + b"xx"}[damage]
    )
    with pytest.raises(ModelError, match="broken weights"):
        FluxTeacher(settings(folder)).identity()


def test_row_47_code_of_the_repository_is_refused(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "transformer": ["my_code", "Evil"]}))
    (folder / "transformer" / "my_code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ConfigError, match=r"RemoteCodeRefused.*my_code"):
        FluxTeacher(settings(folder)).identity()


def test_other_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model_index\.json"):
        FluxTeacher(settings(tmp_path)).identity()
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace('"FluxPipeline"', '"StableDiffusionPipeline"'))
    with pytest.raises(ModelError, match="needs a FluxPipeline"):
        FluxTeacher(settings(folder)).identity()


def test_sizes_and_places_that_cannot_be(saved: Path, teacher: FluxTeacher) -> None:
    with pytest.raises(ConfigError, match="multiples of 16"):
        teacher.generate(["a cat"], [1], 40)
    with pytest.raises(ConfigError, match="no GPU to offload from"):
        FluxTeacher(settings(saved, offload="model")).generate(["a cat"], [1], 32)
