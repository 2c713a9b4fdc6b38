"""FEATURES + TEXTS -> CHECKPOINT: sealed, named by its recipe, resumed, refused where sizes do not fit."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from lightgen.encoders.restore import Encoders, read_image_encoding, read_text_encoding
from lightgen.errors import CheckpointCorrupt, ConfigError
from lightgen.generators.restore import checkpoint_config, load_student
from lightgen.generators.sampler import Sampler
from lightgen.pages.gallery import gallery
from lightgen.progress import SILENT, Silent
from lightgen.stages.pretrain import PretrainConfig, prepare, pretrain
from lightgen.storage.store import open_or_create
from lightgen.training import job
from lightgen.training.job import TrainingJob, train_to_output
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig
from tests.lightgen.conftest import training


def _config(**changes) -> PretrainConfig:
    return training().model_copy(update=changes)


def test_a_checkpoint_holds_weights_average_log_and_samples(chain) -> None:
    version = chain.store.open(chain.checkpoint)
    names = [row["name"] for row in version.table().to_pylist()]
    weights, average = load_file(version.file("model.safetensors")), load_file(version.file("ema.safetensors"))
    assert sorted(names) == sorted([f"model.{name}" for name in weights] + [f"ema.{name}" for name in average])
    rows = [json.loads(line) for line in version.file("log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert version.file("samples.png").read_bytes().startswith(b"\x89PNG")
    settings = checkpoint_config(version)
    assert (settings.size_px, settings.steps, settings.encoders) == (
        32,
        6,
        Encoders.of(
            read_image_encoding(chain.store.open(chain.features)), read_text_encoding(chain.store.open(chain.texts))
        ),
    )


def test_grids_that_were_drawn_on_the_way_are_sealed_and_shown(chain) -> None:
    config = training()
    often = config.model_copy(update={"loop": config.loop.model_copy(update={"sample_every": 2})})
    version = chain.store.open(pretrain(chain.features, chain.texts, often, chain.context(seed=3)))
    grids = {name for name in version.file_names if name.startswith("samples")}
    assert grids == {"samples.png", "samples-00000002.png", "samples-00000004.png"}
    drawn = {version.file(name).read_bytes() for name in grids}
    assert len(drawn) == 3
    assert "Samples at step 2" in gallery(version, chain.store)


def test_the_same_recipe_is_not_trained_twice_and_another_seed_is_another_version(chain, monkeypatch) -> None:
    other = pretrain(chain.features, chain.texts, _config(), chain.context(seed=2))
    assert other.version != chain.checkpoint.version
    assert other.fingerprint != chain.checkpoint.fingerprint
    monkeypatch.setattr(job, "train", lambda *_, **__: pytest.fail("trained again"))
    assert pretrain(chain.features, chain.texts, _config(), chain.context()) == chain.checkpoint


def test_processes_of_torchrun_come_to_the_same_student(chain, tmp_path) -> None:
    """The whole way: job file, two processes, their sealed checkpoint taken up; against the same run in one process."""
    heard: list[str] = []

    class Heard(Silent):
        def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
            heard.append(f"{title} {total} {unit}")

    config = _config(batch_size=8, launch=LaunchConfig(processes=2, accumulate=2))
    exact = config.model_copy(update={"loop": config.loop.model_copy(update={"precision": "fp32"})})
    many = chain.store.open(pretrain(chain.features, chain.texts, exact, chain.context(5, Heard())))
    assert "train 6 steps" in heard
    speed = json.loads(many.file("speed.json").read_text())
    assert (speed["processes"], speed["device"]) == (2, "cpu")
    assert 0 < speed["gpu_hours"] == pytest.approx(2 * speed["seconds"] / 3600)
    other = open_or_create(str(tmp_path / "store"))
    run = TrainingJob(
        stage="pretrain", store=chain.store.uri, parents=[chain.features, chain.texts],
        config=exact.model_dump(mode="json"), seed=5, folder=other.scratch(many.plan), run_id="r", starter=0,
        device="cpu",
    )  # fmt: skip
    prepared = replace(prepare(run, chain.store, "cpu"), launch=LaunchConfig())
    alone = train_to_output(prepared, run, SILENT)
    logs = [text.decode().splitlines() for text in (many.file("log.jsonl").read_bytes(), alone.extras["log.jsonl"])]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in logs]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)  # dropout differs between the processes


def test_no_steps_is_the_untrained_student(chain) -> None:
    config = _config(loop=LoopConfig(steps=0, threads=1))
    student = load_student(chain.store.open(pretrain(chain.features, chain.texts, config, chain.context())))
    assert student.head.token_out.weight.abs().max() == 0


def test_training_goes_on_from_another_checkpoint_with_a_finer_grid(chain) -> None:
    config = _config(grid=8, loop=LoopConfig(steps=0, threads=1))
    refined = chain.store.open(pretrain(chain.features, chain.texts, config, chain.context(), chain.checkpoint))
    before, after = load_student(chain.store.open(chain.checkpoint)), load_student(refined)
    assert after.config.grid == 8
    assert after.decoder_positions.table.shape == (1, 64, 32)
    assert torch.equal(after.token_in.weight, before.token_in.weight)
    assert torch.allclose(after.decoder_positions(8, 8).mean(1), before.decoder_positions(8, 8).mean(1), atol=1e-5)
    assert chain.checkpoint in refined.parents


def test_sizes_that_do_not_fit_the_features_are_refused(chain) -> None:
    sizes = _config().sizes()
    for update, message in (({"text_dim": 7}, "text_dim is 7"), ({"latent_channels": 3}, "do not fit latents")):
        config = _config(student=sizes.model_copy(update=update))
        with pytest.raises(ConfigError, match=message):
            pretrain(chain.features, chain.texts, config, chain.context())
    attending = _config(student=sizes.model_copy(update={"attend_padding": True}))
    with pytest.raises(ConfigError, match=r"attends padding .* but its text encoder gives none"):
        pretrain(chain.features, chain.texts, attending, chain.context())
    with pytest.raises(ConfigError, match="no preset 'large'"):
        PretrainConfig(student="large").sizes()


@pytest.mark.parametrize(
    "launch", [LaunchConfig(accumulate=3), LaunchConfig(processes=3)], ids=["here", "in processes"]
)
def test_more_mask_ratios_than_microbatches_are_refused(chain, launch: LaunchConfig) -> None:
    with pytest.raises(ConfigError, match=r"^pretrain.mask_ratios is 2, but a step has 3 microbatches"):
        pretrain(chain.features, chain.texts, _config(mask_ratios=2, launch=launch), chain.context())


def test_a_sampler_draws_what_the_checkpoint_says(chain, sample) -> None:
    sampler = Sampler.from_checkpoint(chain.store.open(chain.checkpoint), chain.store)
    captions = ["a red circle", "two squares", "a blue cross"]
    images = sampler.images(captions, [1, 2, 3], sample)
    assert images.shape == (3, 32, 32, 3)
    alone = sampler.images(captions[1:2], [2], sample.model_copy(update={"batch_size": 1}))
    assert abs(images[1:2].astype(int) - alone.astype(int)).max() <= 1  # rounding of a product in another batch
    assert sampler.images([], [], sample).shape == (0, 32, 32, 3)
    with pytest.raises(ConfigError, match="as many seeds"):
        sampler.images(captions, [1], sample)


def test_weights_that_do_not_fit_their_settings_are_corrupt(chain, monkeypatch) -> None:
    version = chain.store.open(chain.checkpoint)
    wrong = checkpoint_config(version)
    wrong = wrong.model_copy(update={"student": wrong.student.model_copy(update={"head_width": 8})})
    monkeypatch.setattr("lightgen.generators.restore.checkpoint_config", lambda _: wrong)
    with pytest.raises(CheckpointCorrupt, match="does not fit its config"):
        load_student(version)
