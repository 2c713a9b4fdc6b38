"""Generator `flux` on a tiny random FLUX.1 of the real classes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightgen.errors import ConfigError, ModelError
from lightgen.generators.base import Failure
from lightgen.generators.flux import FluxConfig, FluxGenerator
from lightgen.generators.tiny_flux import tiny_flux
from lightgen.storage.store import open_or_create
from lightgen.work import Worker

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CAPTIONS = ["a red cat", "two blue dogs on the left", "a yellow circle"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def settings(folder: Path, **changes: Any) -> FluxConfig:
    base = {"model": str(folder), "steps": 2, "max_tokens": 24, "dtype": "float32"}
    return FluxConfig(**{**base, **changes})


def opened(config: FluxConfig, tmp_path: Path) -> FluxGenerator:
    return config.open(None, Worker(open_or_create(str(tmp_path / "store"))))  # type: ignore[arg-type]  # it asks no work


@pytest.fixture(scope="module")
def generator(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> FluxGenerator:
    return opened(settings(saved), tmp_path_factory.mktemp("opened"))


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "text_encoder_2", "vae"])
def test_a_weight_that_is_in_no_file_is_not_made_up(folder: Path, tmp_path: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    lost = min(name for name in tensors if name.endswith("weight"))
    del tensors[lost]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{re.escape(lost)}; fetch "):
        opened(settings(folder), tmp_path)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (32, 64)])
def test_it_paints_what_the_pipeline_paints(saved: Path, generator: FluxGenerator, height: int, width: int) -> None:
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

    pipeline: Any = FluxPipeline.from_pretrained(saved, dtype=torch.float32)
    expected = pipeline(
        CAPTIONS[0],
        height=height,
        width=width,
        num_inference_steps=2,
        guidance_scale=3.5,
        max_sequence_length=24,
        generator=torch.Generator("cpu").manual_seed(5),
    ).images[0]
    (image,) = generator.generate([CAPTIONS[0]], [5], height, width)
    assert np.asarray(expected).shape == (height, width, 3)
    assert np.array_equal(image, np.asarray(expected))  # type: ignore[arg-type]


def test_an_image_does_not_depend_on_its_batch(generator: FluxGenerator) -> None:
    together = generator.generate(CAPTIONS, [3, 2**62, 5], 64, 48)
    for caption, seed, image in zip(CAPTIONS, [3, 2**62, 5], together, strict=True):
        (alone,) = generator.generate([caption], [seed], 64, 48)
        assert isinstance(image, np.ndarray)
        assert isinstance(alone, np.ndarray)
        assert image.shape == (64, 48, 3)
        assert image.dtype == np.uint8
        # Sums of floats may differ in their last bit between batch sizes, which can move a value over a rounding edge.
        assert np.abs(alone.astype(int) - image).max() <= 1


def test_seed_and_caption_both_count(generator: FluxGenerator) -> None:
    one, other_seed = generator.generate(["a red cat"] * 2, [1, 2], 32, 32)
    (other_caption,) = generator.generate(["a blue dog"], [1], 32, 32)
    assert not np.array_equal(one, other_seed)  # type: ignore[arg-type]
    assert not np.array_equal(one, other_caption)  # type: ignore[arg-type]


def test_overflow_is_a_failure_of_its_rows(saved: Path, tmp_path: Path) -> None:
    broken = opened(settings(saved), tmp_path)
    with torch.no_grad():
        broken.pipeline.vae.decoder.conv_out.bias[1] = float("nan")
    (outcome,) = broken.generate(["a cat"], [1], 32, 32)
    assert isinstance(outcome, Failure)
    assert outcome.reason == "nonfinite"
    assert "1024 of 3072" in outcome.detail


def test_identity_names_weights_and_settings_but_no_place(saved: Path, folder: Path) -> None:
    first = settings(saved).identity()
    assert set(first["weights"]) == {"sha256"}
    assert not {"model", "subfolder", "offload"} & set(first)
    assert settings(folder).identity() == first
    assert settings(folder, steps=3).identity() != first
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"shift": 3.0', '"shift": 2.0'))
    assert settings(folder).identity()["weights"] != first["weights"]


@pytest.mark.parametrize(
    "file",
    ["transformer/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer_2/tokenizer.json"],
)
def test_identity_sees_one_changed_byte_of_weights_settings_and_tokenizers(
    saved: Path, folder: Path, file: str
) -> None:
    path = folder / file
    data = path.read_bytes()
    path.write_bytes(data + b" " if path.suffix == ".json" else data[:-1] + bytes([data[-1] ^ 1]))
    assert settings(folder).identity()["weights"] != settings(saved).identity()["weights"]


def test_speed_settings_are_no_content(saved: Path) -> None:
    assert settings(saved, offload="model").identity() == settings(saved).identity()
    assert settings(saved, guidance=1.0).identity() != settings(saved).identity()


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:7]])
def test_a_hub_id_needs_a_commit(revision: str | None) -> None:
    with pytest.raises(ConfigError, match=r"RevisionNotPinned.*40 digits"):
        FluxConfig(revision=revision).identity()


def test_a_pinned_hub_id_is_known_by_its_commit() -> None:
    weights = FluxConfig(revision=COMMIT).identity()["weights"]
    assert weights["model"] == "black-forest-labs/FLUX.1-dev"
    assert weights["revision"] == COMMIT


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ConfigError, match=r"UnsafeWeights.*save_pretrained"):
        settings(folder).identity()
    with pytest.raises(ModelError, match="safetensors"):
        opened(settings(folder), tmp_path)


@pytest.mark.parametrize("damage", ["header", "cut", "trailing"])
def test_broken_weights_are_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    weights = folder / "text_encoder" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(
        {"header": (1 << 60).to_bytes(8, "little") + data[8:], "cut": data[:-9], "trailing": data + b"xx"}[damage]
    )
    with pytest.raises(ModelError, match=r"text_encoder: not a usable CLIPTextModel: .*; fetch .*text_encoder again"):
        opened(settings(folder), tmp_path)


def test_code_of_the_repository_is_refused(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "transformer": ["my_code", "Evil"]}))
    (folder / "transformer" / "my_code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ConfigError, match=r"RemoteCodeRefused.*my_code"):
        settings(folder).identity()


def test_other_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model_index\.json"):
        settings(tmp_path).identity()
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace('"FluxPipeline"', '"StableDiffusionPipeline"'))
    with pytest.raises(ModelError, match="needs a FluxPipeline"):
        settings(folder).identity()


def test_sizes_and_places_that_cannot_be(saved: Path, generator: FluxGenerator, tmp_path: Path) -> None:
    for sides in ((40, 48), (48, 40)):
        with pytest.raises(ConfigError, match="multiples of 16"):
            generator.generate(["a cat"], [1], *sides)
    with pytest.raises(ConfigError, match="no GPU to offload from"):
        opened(settings(saved, offload="model"), tmp_path)
