"""Generator `diffusers` on tiny random pipelines of five classes."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightgen.config import problems_of
from lightgen.errors import ConfigError, ModelError
from lightgen.generators.base import Failure
from lightgen.generators.diffusers import DiffusersConfig, DiffusersGenerator
from lightgen.generators.flux import FluxConfig
from lightgen.generators.tiny_pipelines import TINY, tiny_pipeline
from lightgen.stages.generate import GenerateConfig
from lightgen.storage.store import open_or_create
from lightgen.work import Worker

CAPTIONS = ["a red cat", "two blue dogs on the left", "a yellow circle"]
SEEDS = [3, 2**62, 5]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
UNIT = {"StableDiffusionPipeline": 8, "StableDiffusionXLPipeline": 8}  # the others have tokens of 16 px
Opened = dict[str, tuple[Path, DiffusersGenerator]]


def settings(folder: Path, **changes: Any) -> DiffusersConfig:
    base = {"model": str(folder), "steps": 2, "guidance": 4.0, "dtype": "float32"}
    return DiffusersConfig(**{**base, **changes})


def opened(config: DiffusersConfig, tmp_path: Path) -> DiffusersGenerator:
    return config.open(None, Worker(open_or_create(str(tmp_path / "store"))))  # type: ignore[arg-type]  # it asks no work


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    found = {}
    for name in TINY:
        folder = tiny_pipeline(tmp_path_factory.mktemp(name), name)
        found[name] = (folder, opened(settings(folder), tmp_path_factory.mktemp("opened")))
    return found


@pytest.fixture
def folder(pipelines: Opened, tmp_path: Path) -> Path:
    """A copy of a Stable Diffusion to break."""
    return Path(shutil.copytree(pipelines["StableDiffusionPipeline"][0], tmp_path / "copy"))


def stopping(config: DiffusersConfig) -> list[str]:
    return [f"{one.where}: {one.what}" for one in problems_of(config) if one.weight == "stops"]


@pytest.mark.parametrize("name", TINY)
def test_it_paints_what_the_pipeline_paints_whatever_the_batch(pipelines: Opened, name: str) -> None:
    import diffusers

    folder, generator = pipelines[name]
    kind = getattr(diffusers, name)
    theirs = kind.from_pretrained(folder, dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    takes = inspect.signature(kind.__call__).parameters
    unbinned = {"use_resolution_binning": False} if "use_resolution_binning" in takes else {}
    together = generator.generate(CAPTIONS, SEEDS, 32, 64)
    for caption, seed, image in zip(CAPTIONS, SEEDS, together, strict=True):
        expected = np.asarray(
            theirs(
                caption, height=32, width=64, num_inference_steps=2, guidance_scale=4.0,
                generator=torch.Generator("cpu").manual_seed(seed), **unbinned,
            ).images[0]
        )  # fmt: skip
        assert isinstance(image, np.ndarray)
        assert image.dtype == np.uint8
        assert expected.shape == image.shape == (32, 64, 3)
        # Sums of floats may differ in their last bit between batch sizes, which can move a value over a rounding edge.
        assert np.abs(expected.astype(int) - image).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 20  # type: ignore[union-attr]


@pytest.mark.parametrize("name", TINY)
def test_seed_caption_and_settings_all_count(pipelines: Opened, tmp_path: Path, name: str) -> None:
    folder, generator = pipelines[name]
    first, other_seed = generator.generate(["a red cat"] * 2, [1, 2], 32, 32)
    (other_caption,) = generator.generate(["a blue dog"], [1], 32, 32)
    (other_steps,) = opened(settings(folder, steps=3), tmp_path).generate(["a red cat"], [1], 32, 32)
    for other in (other_seed, other_caption, other_steps):
        assert not np.array_equal(first, other)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TINY)
def test_plan_knows_the_sides_that_a_pipeline_here_draws(pipelines: Opened, name: str) -> None:
    config = settings(pipelines[name][0])
    unit = UNIT.get(name, 16)
    assert config.multiple_px == unit
    assert not list(problems_of(GenerateConfig(generator=config, size_px=3 * unit)))
    (told,) = problems_of(GenerateConfig(generator=config, size_px=3 * unit + unit // 2))
    assert f"multiples of {unit} px" in told.what


def test_negative_prompts_and_tokens_count_where_they_are_taken(pipelines: Opened, tmp_path: Path) -> None:
    folder, plain = pipelines["StableDiffusion3Pipeline"]
    (first,) = plain.generate(["a red cat on the left"], [1], 32, 32)
    for changes in ({"negative_prompt": "a dog"}, {"max_tokens": 2}):
        (other,) = opened(settings(folder, **changes), tmp_path).generate(["a red cat on the left"], [1], 32, 32)
        assert not np.array_equal(first, other), changes  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("StableDiffusionPipeline", {"max_tokens": 77}, "max_tokens: StableDiffusionPipeline takes no max_sequence"),
        ("StableDiffusionPipeline", {"true_guidance": 2.0}, "true_guidance: .* takes no true_cfg_scale"),
        ("StableDiffusionXLPipeline", {"guidance": None}, "guidance: .*its own default is 5"),
        ("PixArtSigmaPipeline", {"guidance": 1.0, "negative_prompt": "x"}, "does nothing unless guidance is above 1"),
        ("FluxPipeline", {"negative_prompt": "blur"}, "does nothing unless true_guidance is above 1"),
    ],
)
def test_plan_refuses_settings_that_the_pipeline_does_not_take(
    pipelines: Opened, tmp_path: Path, name: str, changes: dict[str, Any], told: str
) -> None:
    config = settings(pipelines[name][0], **changes)
    (problem,) = problems_of(config)
    assert problem.place == "recipe"
    assert problem.weight == "stops"
    with pytest.raises(ConfigError, match=told) as raised:
        opened(config, tmp_path)
    assert str(raised.value) == problem.what


@pytest.mark.parametrize("missing", ["model_index.json", "unet", "unet/*.safetensors", "*"])
def test_a_pipeline_of_which_the_cache_of_the_hub_has_a_part_is_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    snapshot = tmp_path / "models--owner--name" / "snapshots" / COMMIT
    shutil.move(folder, snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("lightgen.storage.hub.refusal", lambda *_: "")
    wrong = settings(Path("owner/name"), revision=COMMIT, true_guidance=2.0)
    assert len(stopping(wrong)) == 1, "it takes no true guidance"
    for path in snapshot.glob(missing):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert stopping(settings(Path("owner/name"), revision=COMMIT)) == []
    assert len(stopping(wrong)) == (0 if missing in ("model_index.json", "*") else 1)


def test_what_a_safety_checker_makes_black_is_a_failure_of_its_row(folder: Path, tmp_path: Path) -> None:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPVisionConfig

    vision = CLIPVisionConfig(hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                              image_size=16, patch_size=8, projection_dim=8)  # fmt: skip
    text = CLIPTextConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, vocab_size=50, projection_dim=8)
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    )
    looks = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    plain: Any = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    parts = {**plain.components, "safety_checker": checker, "feature_extractor": looks}
    StableDiffusionPipeline(**parts).save_pretrained(tmp_path / "checked")
    generator = opened(settings(tmp_path / "checked"), tmp_path)
    assert generator.pipeline.safety_checker is not None
    # Of thresholds that no picture meets, all pass; then the first concept is met by every picture.
    passed = generator.generate(CAPTIONS, SEEDS, 32, 32)
    with torch.no_grad():
        generator.pipeline.safety_checker.concept_embeds_weights[0] = -1.5
    refused = generator.generate(CAPTIONS, SEEDS, 32, 32)
    assert all(isinstance(one, np.ndarray) for one in passed)
    assert [one.reason for one in refused if isinstance(one, Failure)] == ["safety_checker"] * 3


def test_overflow_is_a_failure_of_its_rows(folder: Path, tmp_path: Path) -> None:
    broken = opened(settings(folder), tmp_path)
    with torch.no_grad():
        broken.pipeline.vae.decoder.conv_out.bias[1] = float("nan")
    (outcome,) = broken.generate(["a cat"], [1], 32, 32)
    assert isinstance(outcome, Failure)
    assert outcome.reason == "nonfinite"


def test_a_size_that_the_pipeline_rounds_is_refused(pipelines: Opened) -> None:
    with pytest.raises(ConfigError, match="draws 48 x 48 px where 56 x 56 px are asked for"):
        pipelines["FluxPipeline"][1].generate(["a cat"], [1], 56, 56)


def changed_index(folder: Path, **changes: Any) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"unet": ["my_unet", "MyUnet"]}, "RemoteCodeRefused.*my_unet"),
        ({"_class_name": ["pipeline", "MyPipeline"]}, "RemoteCodeRefused.*pipeline"),
        ({"_class_name": "NoSuchPipeline"}, "NoSuchPipeline, which diffusers .* does not know"),
        ({"_class_name": "StableDiffusionInpaintPipeline"}, "does not draw captions alone"),
        ({"_class_name": "FluxImg2ImgPipeline"}, "does not draw captions alone"),
        ({"_class_name": "StableVideoDiffusionPipeline"}, "does not draw captions alone"),
    ],
)
def test_other_pipelines_and_code_of_a_repository_are_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    assert not stopping(settings(folder))
    changed_index(folder, **changes)
    assert any(stopping(settings(folder)))
    with pytest.raises((ConfigError, ModelError), match=told):
        opened(settings(folder), tmp_path)


def test_code_that_lies_beside_a_part_is_not_run(folder: Path, tmp_path: Path) -> None:
    changed_index(folder, unet=["stable_diffusion", "UNet2DConditionModel"])
    (folder / "unet" / "stable_diffusion.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(ConfigError, match="RemoteCodeRefused"):
        opened(settings(folder), tmp_path)


def test_pickled_and_missing_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ConfigError, match=r"UnsafeWeights.*save_pretrained"):
        settings(folder).identity()
    with pytest.raises(ConfigError, match="UnsafeWeights"):
        opened(settings(folder), tmp_path)
    shutil.rmtree(folder / "unet")
    with pytest.raises(ModelError, match=r"part unet of model_index\.json is not there"):
        opened(settings(folder), tmp_path)


def test_identity_names_weights_and_settings_but_no_place(pipelines: Opened, folder: Path) -> None:
    first = settings(pipelines["StableDiffusionPipeline"][0]).identity()
    assert settings(folder, offload="model").identity() == first
    assert not {"model", "subfolder", "offload"} & set(first)
    for changes in ({"steps": 3}, {"guidance": 5.0}, {"negative_prompt": "blur"}, {"dtype": "float16"}):
        assert settings(folder, **changes).identity() != first
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text().replace('"steps_offset": 1', '"steps_offset": 0'))
    assert settings(folder).identity()["weights"] != first["weights"]


@pytest.mark.parametrize("revision", [None, "main", COMMIT[:7]])
def test_a_hub_id_needs_a_commit(revision: str | None) -> None:
    with pytest.raises(ConfigError, match="RevisionNotPinned"):
        DiffusersConfig(model="owner/name", revision=revision, steps=2).identity()


def test_a_pinned_hub_id_is_known_by_its_commit() -> None:
    weights = DiffusersConfig(model="owner/name", revision=COMMIT, steps=2).identity()["weights"]
    assert weights == {"model": "owner/name", "revision": COMMIT, "folders": [""]}


@pytest.mark.parametrize(
    "given",
    [
        {"model": "owner/sdxl", "guidance": 5.0, "negative_prompt": "blur"},
        {"model": "owner/flux", "guidance": 3.5, "true_guidance": 2.0, "negative_prompt": "blur", "max_tokens": 512},
        {"model": "owner/none"},
    ],
)
def test_a_model_of_the_hub_is_rehearsed_without_it(tmp_path: Path, given: dict[str, Any]) -> None:
    small = DiffusersConfig(revision=COMMIT, steps=30, dtype="float32", **given).rehearse(tmp_path)
    assert not stopping(small)
    (image,) = opened(small, tmp_path).generate(["a red cat"], [1], 32, 32)
    assert isinstance(image, np.ndarray)


def test_a_model_here_is_rehearsed_by_its_own_class(pipelines: Opened, tmp_path: Path) -> None:
    small = settings(pipelines["StableDiffusionXLPipeline"][0], steps=40).rehearse(tmp_path)
    assert type(opened(small, tmp_path).pipeline).__name__ == "StableDiffusionXLPipeline"
    assert small.steps == 2


def test_it_draws_what_flux_draws(pipelines: Opened, tmp_path: Path) -> None:
    folder, _ = pipelines["FluxPipeline"]
    own = FluxConfig(model=str(folder), steps=2, guidance=4.0, max_tokens=24, dtype="float32")
    theirs = own.open(None, Worker(open_or_create(str(tmp_path / "store"))))  # type: ignore[arg-type]
    ours = opened(settings(folder, max_tokens=24), tmp_path)
    assert np.array_equal(ours.generate(CAPTIONS, SEEDS, 32, 48), theirs.generate(CAPTIONS, SEEDS, 32, 48))  # type: ignore[arg-type]
