"""Weights in the authors' layout: the same image as their procedure, padding and quirks included."""

import argparse
import json
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, T5EncoderModel

from lightgen import cli
from lightgen.encoders.diffusers_vae import DiffusersVaeConfig, load_autoencoder
from lightgen.encoders.t5 import T5Config
from lightgen.encoders.text import text_of_identity
from lightgen.encoders.tiny import tiny_t5, tiny_vae
from lightgen.errors import ConfigError, ModelError
from lightgen.generators.restore import checkpoint_config
from lightgen.generators.sampler import Sampler
from lightgen.model.sampling import SampleConfig
from lightgen.operations.official import OfficialConfig, import_official
from lightgen.pipeline import LightGenPipeline
from lightgen.pipeline.components import DecodingScheduler, StudentModel
from lightgen.stages.align import AlignConfig, align
from lightgen.stages.encode_pairs import EncodePairsConfig, encode_pairs
from lightgen.stages.texts import TextsConfig, texts
from lightgen.storage.store import open_or_create, open_store
from lightgen.training.features_on_disk import open_features
from lightgen.training.loop import LoopConfig
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.texts_on_disk import open_texts
from lightgen.work import Context, RunConfig
from tests.lightgen.operations.published import Sizes, Weights, latents, random_weights, sample
from tests.lightgen.sealed import pairs

CAPTIONS = ["a red circle", "two blue cat and the dog on a green square"]
MAX_TOKENS, CHANNELS, SIDE_PX = 14, 4, 8
SIZES = Sizes(token=4 * CHANNELS)
STEPS = {"iterations": 5, "head_steps": 6, "guidance": 3.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE that makes 4 px one, and a T5."""
    folder = tmp_path_factory.mktemp("models")
    tiny_vae(folder / "vae", CHANNELS, 4)
    tiny_t5(folder / "t5")
    return folder


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(SIZES, 5)


def config(models: Path, path: Path, **text: Any) -> OfficialConfig:
    settings = {"model": str(models / "t5"), "max_tokens": MAX_TOKENS, "dtype": "float32", "storage": "float16"}
    return OfficialConfig(
        path=str(path), heads=SIZES.heads, size_px=2 * SIDE_PX,
        vae=DiffusersVaeConfig(model=str(models / "vae")),
        text=T5Config.model_validate({**settings, "padded": True, **text}),
        sample=SampleConfig.model_validate(STEPS),
    )  # fmt: skip


def imported(models: Path, weights: Weights, folder: Path) -> Sampler:
    save_file(weights, folder / "official.safetensors")
    store = open_or_create(str(folder / "store"))
    made = import_official(config(models, folder / "official.safetensors"), Context(store, run=RunConfig(device="cpu")))
    return Sampler.from_checkpoint(store.open(made), store)


def published_image(models: Path, weights: Weights, caption: str, seed: int, rows: int, columns: int) -> np.ndarray:
    """Pixels [h, w, 3] by the reference, T5 and VAE of transformers and diffusers called directly."""
    tokenizer, t5 = AutoTokenizer.from_pretrained(models / "t5"), T5EncoderModel.from_pretrained(models / "t5").eval()
    given = tokenizer([caption], padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    vae: Any = load_autoencoder(DiffusersVaeConfig(model=str(models / "vae")), "cpu")
    with torch.no_grad():
        states = t5(input_ids=given.input_ids, attention_mask=given.attention_mask).last_hidden_state
        drawn = sample(
            weights, SIZES, states.half().float(), seed, rows, columns, STEPS["iterations"], STEPS["guidance"],
            STEPS["head_steps"],
        )  # fmt: skip
        z = latents(drawn, rows, columns, CHANNELS) / vae.config.scaling_factor + vae.config.shift_factor
        pixels = (vae.decode(z).sample[0] / 2 + 0.5).clamp(0, 1) * 255
    return pixels.round().permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (4, 4), (3, 4)], ids=["as trained", "larger", "not square"])
def test_an_image_is_that_of_the_published_procedure(
    rows: int, columns: int, models: Path, weights: Weights, tmp_path: Path
) -> None:
    sampler = imported(models, weights, tmp_path)
    steps = SampleConfig.model_validate(STEPS)
    found = sampler.images(CAPTIONS, [3, 4], steps, rows * SIDE_PX, columns * SIDE_PX).astype(int)
    expected = [published_image(models, weights, *given, rows, columns) for given in zip(CAPTIONS, (3, 4), strict=True)]
    assert np.abs(found - np.stack(expected)).max() <= 1
    assert np.std(expected[0]) > 5
    other = published_image(models, weights, CAPTIONS[1], 3, rows, columns)
    assert np.abs(found[0] - other).max() > 10  # the null control: the text, and so its padding, counts


def test_an_image_does_not_depend_on_its_batch(models: Path, weights: Weights, tmp_path: Path) -> None:
    """Padding of T5 up to a length of its own: with zeros up to the longest text, a longer neighbour counted."""
    sampler = imported(models, weights, tmp_path)
    steps = SampleConfig.model_validate(STEPS)
    alone = sampler.images(CAPTIONS[:1], [3], steps).astype(int)
    together = sampler.images(CAPTIONS, [3, 4], steps).astype(int)
    assert np.abs(together[:1] - alone).max() <= 1
    cut = sampler.text.encode(CAPTIONS[:1])[0][:4]
    text = [torch.nn.functional.pad(cut, (0, 0, 0, extra)) for extra in (0, 7)]
    keep = torch.ones(1, 11, dtype=torch.bool)
    heard = [sampler.student.text(one[None], keep[:, : len(one)]).tokens.mean() for one in text]
    assert abs(heard[0] - heard[1]) > 1e-4  # the null control: zeros are heard


def test_a_student_that_attends_padding_wants_an_encoder_that_gives_it(
    models: Path, weights: Weights, tmp_path: Path
) -> None:
    sampler = imported(models, weights, tmp_path)
    trimmed = T5Config(model=str(models / "t5"), dtype="float32")
    with pytest.raises(ConfigError, match="attends padding"):
        replace(sampler, text=trimmed.open("cpu"))
    student = StudentModel.of(sampler.student, 16, trimmed.model_dump(mode="json"))
    vae = load_autoencoder(DiffusersVaeConfig(model=str(models / "vae")), "cpu")
    with pytest.raises(ConfigError, match="attends padding"):
        LightGenPipeline(student, DecodingScheduler(), vae)


def test_the_settings_are_those_of_the_preset(models: Path, weights: Weights, tmp_path: Path) -> None:
    sampler = imported(models, weights, tmp_path)
    found = sampler.student.config
    assert (found.attend_padding, found.quirky_positions, found.skip_after_norm) == (True, True, True)
    assert (found.encoder_depth, found.decoder_depth, found.text_depth, found.aligner_depth) == (2, 1, 2, 1)
    assert (found.head_depth, found.head_width, found.grid, found.mlp_ratio) == (2, 20, 2, 4.0)
    assert sum(one.numel() for one in sampler.student.parameters()) == sum(one.numel() for one in weights.values())


def test_published_weights_are_aligned_with_the_padding_that_they_attend(
    models: Path, weights: Weights, tmp_path: Path
) -> None:
    sampler = imported(models, weights, tmp_path)
    store = open_store(str(tmp_path / "store"))
    context, start = Context(store, seed=1, run=RunConfig(device="cpu")), store.open("checkpoint@latest").ref
    made, drawn = pairs(store, 6)
    encoded = encode_pairs(made, start, drawn, EncodePairsConfig(), context)
    encoder = text_of_identity(checkpoint_config(store.open(start)).encoders.text, store)
    words = texts(made, TextsConfig(encoder=encoder), context)
    data = open_features(store.open(encoded), open_texts(store.open(words)))
    captions = store.open(encoded).table(columns=["caption"])["caption"].to_pylist()
    batch = data.batch(np.arange(6), np.zeros(6, np.int64))
    assert batch.keep.all()
    expected = torch.stack(sampler.text.encode(captions))
    assert torch.allclose(batch.text.float(), expected, atol=2e-3)
    assert expected[:, -1].abs().amax(dim=1).min() > 0.1  # padding, and no zeros
    loop = LoopConfig(steps=2, optimizer=OptimizerConfig(lr=1e-4, warmup_steps=0), ema=0.0, log_every=1, threads=1)
    few = SampleConfig(iterations=2, head="ddim", head_steps=2, clip_x0=2.0)
    config = AlignConfig(batch_size=4, noise_copies=1, beta=5.0, loop=loop, samples=few, sample_captions=2)
    aligned = store.open(align(start, encoded, words, config, context))
    first = json.loads(aligned.file("log.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls `lightgen ARGUMENTS`: (exit code, out, err)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lightgen", *map(str, arguments)])
        monkeypatch.setattr(cli.official.out, "_file", sys.stdout)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def test_a_pth_becomes_a_checkpoint_and_a_folder_of_diffusers(
    run: Run, models: Path, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the authors save it: weights, their average, optimizer and the arguments of the run in one file."""
    average = {name: value * 0.5 for name, value in weights.items()}
    saved = {"model": weights, "model_ema": average, "optimizer": {}, "epoch": 20, "args": argparse.Namespace(lr=1e-4)}
    (tmp_path / "official").mkdir()
    torch.save(saved, tmp_path / "official" / "checkpoint-20.pth")
    command = ["import-official", tmp_path / "official", "--vae", models / "vae", "--text", models / "t5"]
    command += ["--heads", 3, "--size", 16, "--max-tokens", MAX_TOKENS, "--store", tmp_path / "store"]
    code, out, err = run(*command)
    assert code == 0, err
    assert f"{len(weights)} tensors" in out
    store = open_store(str(tmp_path / "store"))
    ref = store.open("checkpoint@latest").ref
    assert run(*command)[0] == 0
    assert len(store.log("checkpoint")) == 1  # found, not made again
    assert run(*command, "--weights", "model_ema")[0] == 0
    assert len(store.log("checkpoint")) == 2
    assert (
        run("gallery", f"checkpoint@{ref.version}", "--to", tmp_path / "page.html", "--store", tmp_path / "store")[0]
        == 0
    )

    def refuse(*_: object) -> None:
        raise AssertionError("a T5 was loaded to write its settings")

    with monkeypatch.context() as patched:
        patched.setattr("lightgen.encoders.t5.load_t5", refuse)
        patched.setattr("lightgen.pipeline.text_to_image.load_t5", refuse)
        named = ["export", f"checkpoint@{ref.version}", tmp_path / "named", "--store", tmp_path / "store"]
        assert run(*named)[0] == 0
    assert not (tmp_path / "named" / "text_encoder").exists()
    assert run(*named[:2], tmp_path / "whole", "--text-encoder", *named[3:])[0] == 0
    assert (tmp_path / "whole" / "text_encoder" / "model.safetensors").is_file()
    expected = published_image(models, weights, CAPTIONS[0], _seed(8), 2, 2)
    for folder in ("named", "whole"):
        pipeline = LightGenPipeline.from_pretrained(tmp_path / folder)
        pipeline.scheduler = type(pipeline.scheduler).of(SampleConfig.model_validate(STEPS))
        images = pipeline(CAPTIONS, generator=torch.Generator().manual_seed(8), output_type="np").images
        assert isinstance(images, np.ndarray)
        assert np.abs(images[0] * 255 - expected).max() <= 1


def _seed(seed: int) -> int:
    return int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(seed)))


def test_a_checkpoint_knows_what_it_was_made_of(models: Path, weights: Weights, tmp_path: Path) -> None:
    imported(models, weights, tmp_path)
    store = open_store(str(tmp_path / "store"))
    version = store.open("checkpoint@latest")
    encoders = checkpoint_config(version).encoders
    assert (encoders.size_px, encoders.latent_shape, encoders.text["padded"]) == (16, (CHANNELS, 4, 4), True)
    assert version.parent("vae").version == store.open("vae@latest").ref.version
    assert json.loads(version.file("sampling.json").read_bytes())["iterations"] == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("cross_norm.bias"), r"1 tensors are not in the file: cross_norm\.bias"),
        (lambda found: found.pop("z_proj.weight"), r"1 tensors are not in the file: z_proj\.weight"),
        (
            lambda found: found.update({"class_emb.weight": torch.zeros(3)}),
            r"1 tensors are in the file, and no part of the published model: class_emb\.weight",
        ),
        (
            lambda found: found.update({"fake_latent": torch.zeros(1, 1, 23)}),
            r"1 tensors are of another shape: fake_latent: \(1, 1, 23\) for \(1, 1, 24\)",
        ),
        (
            lambda found: [found.pop(name) for name in list(found) if name.startswith("encoder_blocks.0.attn")],
            r"4 tensors are not in the file: encoder_blocks\.0\.attn\.proj\.bias",
        ),
        (
            lambda found: found.update({"z_proj.weight": torch.zeros(24)}),
            r"1 tensors are of another shape: z_proj\.weight: \(24,\) for 2 dimensions",
        ),
        (
            lambda found: found.update({"encoder_blocks.999999999.attn.proj.bias": torch.zeros(24)}),
            r"tensors are not in the file: encoder_blocks\.2\.",
        ),
        (
            lambda found: [found.pop(name) for name in list(found) if name.startswith("diffloss.net.res_blocks")],
            r"1 tensors are not in the file: diffloss\.net\.res_blocks\.0",
        ),
        (
            lambda found: found.update({"z_proj.weight": torch.zeros(25, 16)}),
            "sizes that no student has: .*width 25 is not a multiple of heads 3",
        ),
        (
            lambda found: found["cross_norm.bias"].copy_(torch.tensor(float("nan"))),
            r"1 tensors are no weights: cross_norm\.bias: holds numbers that are not finite",
        ),
        (
            lambda found: found.update({"cross_norm.bias": torch.zeros(24, dtype=torch.int64)}),
            r"1 tensors are no weights: cross_norm\.bias: int64",
        ),
    ],
    ids=[
        "missing",
        "needed for the sizes",
        "left over",
        "shape",
        "several",
        "dimensions",
        "a number far off",
        "no block",
        "sizes",
        "nan",
        "whole numbers",
    ],
)
def test_what_does_not_fit_is_listed(
    change: Callable[[Weights], object], message: str, models: Path, weights: Weights, tmp_path: Path
) -> None:
    broken = {name: value.clone() for name, value in weights.items()}
    change(broken)
    with pytest.raises(ModelError, match=message):
        imported(models, broken, tmp_path)
    assert not open_store(str(tmp_path / "store")).log("checkpoint")


def test_files_that_are_no_weights_are_refused(models: Path, weights: Weights, tmp_path: Path) -> None:
    context = Context(open_or_create(str(tmp_path / "store")), run=RunConfig(device="cpu"))
    evil, empty, other = tmp_path / "evil.pth", tmp_path / "empty.pth", tmp_path / "other.pth"
    torch.save({"model": weights, "args": shutil.rmtree}, evil)
    empty.write_bytes(b"")
    torch.save({"state": {"a": torch.zeros(1)}}, other)
    for path, message in (
        (evil, "not a file of weights"),
        (empty, "not a file of weights"),
        (other, "no tensors under"),
    ):
        with pytest.raises(ModelError, match=message):
            import_official(config(models, path), context)
    with pytest.raises(ConfigError, match="one file of weights is wanted"):
        import_official(config(models, tmp_path), context)
    with pytest.raises(ConfigError, match="file there"):
        import_official(config(models, tmp_path / "absent.pth"), context)


def test_encoders_that_the_weights_were_not_trained_with_are_refused(
    models: Path, weights: Weights, tmp_path: Path
) -> None:
    save_file(weights, tmp_path / "official.safetensors")
    context = Context(open_or_create(str(tmp_path / "store")), run=RunConfig(device="cpu"))
    settings = config(models, tmp_path / "official.safetensors")
    wide = tiny_t5(tmp_path / "wide", 32)
    with pytest.raises(ConfigError, match="its vectors have 32 channels, the weights read 24"):
        import_official(config(models, tmp_path / "official.safetensors", model=str(wide)), context)
    with pytest.raises(ConfigError, match="has to be true"):
        import_official(config(models, tmp_path / "official.safetensors", padded=False), context)
    with pytest.raises(ConfigError, match="multiple of 8 px"):
        import_official(settings.model_copy(update={"size_px": 20}), context)
    with pytest.raises(ModelError, match="width 24 is none of the authors' sizes"):
        import_official(settings.model_copy(update={"heads": None}), context)
    tiny_vae(tmp_path / "vae", 3, 4)
    with pytest.raises(ModelError, match="no square patches of the VAE's 3 channels"):
        import_official(settings.model_copy(update={"vae": DiffusersVaeConfig(model=str(tmp_path / "vae"))}), context)
