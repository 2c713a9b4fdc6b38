"""The loop: learns, resumes bit-exactly after SIGKILL, refuses foreign checkpoints, stops when it diverges."""

import concurrent.futures
import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lightgen.errors import ConfigError, ResumeMismatch
from lightgen.model.student import Student
from lightgen.training import checkpoint, loop, state
from lightgen.training.checkpoint import Saver
from lightgen.training.data import FeaturesInMemory
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import train
from lightgen.training.objectives import MaskedDiffusion
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.preference import LiveReference, PairErrorEstimator, Preference
from lightgen.training.ranks import World
from tests.lightgen.training.loop_run import CONFIG, STEPS, Dies, digest_of, killed, trained


@pytest.mark.parametrize("kills", [[2], [4], [5, 9, 11]], ids=str)
def test_resume_after_sigkill_is_bit_exact(
    kills: list[int], objective: MaskedDiffusion, student: Student, fresh: Student, tmp_path: Path
) -> None:
    straight = trained(objective, fresh, tmp_path / "straight")
    for at in kills:
        killed(objective, Student(student.config).init(5), tmp_path / "broken", at)
    resumed = trained(objective, Student(student.config).init(5), tmp_path / "broken")
    assert digest_of(resumed) == digest_of(straight)
    assert resumed.log == straight.log


def test_resume_with_muon_in_bfloat16_is_bit_exact(
    objective: MaskedDiffusion, student: Student, fresh: Student, tmp_path: Path
) -> None:
    muon = OptimizerConfig(kind="muon", lr=3e-3, warmup_steps=3, decay="cosine")
    config = CONFIG.model_copy(update={"optimizer": muon, "precision": "bf16"})
    straight = trained(objective, fresh, tmp_path / "straight", config)
    assert len(straight.optimizers) == 2
    for at in (5, 9):
        killed(objective, Student(student.config).init(5), tmp_path / "broken", at, config)
    resumed = trained(objective, Student(student.config).init(5), tmp_path / "broken", config)
    assert digest_of(resumed) == digest_of(straight)


def test_null_control_resume_without_the_optimizer_differs(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fresh.config
    straight = trained(objective, fresh, tmp_path / "straight")
    killed(objective, Student(config).init(5), tmp_path / "broken", 9)
    monkeypatch.setattr(state, "restore_optimizers", lambda *_: None)
    resumed = trained(objective, Student(config).init(5), tmp_path / "broken")
    assert digest_of(resumed) != digest_of(straight)


def test_a_finished_run_is_not_trained_again(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    first = digest_of(trained(objective, fresh, tmp_path))
    again = trained(Dies.around(objective, 0), Student(fresh.config).init(9), tmp_path)
    assert digest_of(again) == first


def test_a_damaged_checkpoint_falls_back_with_a_warning(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = digest_of(trained(objective, fresh, tmp_path))
    newest = checkpoint.newest(tmp_path, "r")
    assert newest is not None
    weights = newest[1] / "model.00000.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 1
    weights.write_bytes(raw)
    with caplog.at_level(logging.WARNING):
        again = trained(objective, Student(fresh.config).init(9), tmp_path)
    assert "falling back" in caplog.text
    assert digest_of(again) == first


def test_an_unsealed_checkpoint_is_no_checkpoint(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    trained(objective, fresh, tmp_path)
    newest = checkpoint.newest(tmp_path, "r")
    assert newest is not None
    assert newest[0] == STEPS
    (newest[1] / "manifest.json").unlink()
    before = checkpoint.newest(tmp_path, "r")
    assert before is not None
    assert before[0] == 8


def test_another_runs_checkpoint_is_refused(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    trained(objective, fresh, tmp_path)
    with pytest.raises(ResumeMismatch, match="settings, data or seed differ"):
        trained(objective, fresh, tmp_path, run_id="another")


def test_microbatches_add_up_to_the_step(objective: MaskedDiffusion, student: Student, tmp_path: Path) -> None:
    """Without dropout three microbatches of two make the step of one of six, to rounding."""
    calm = student.config.model_copy(update={"dropout": 0.0})
    objective, exact = replace(objective, batch_size=6), CONFIG.model_copy(update={"precision": "fp32"})
    runs = [
        train(
            Student(calm).init(5), objective, exact, seed=11, folder=tmp_path / str(count), run_id="r",
            launch=LaunchConfig(accumulate=count),
        )
        for count in (1, 3)
    ]  # fmt: skip
    for one, other in zip(runs[0].student.parameters(), runs[1].student.parameters(), strict=True):
        # Adam divides by the size of a gradient, and so enlarges the rounding of those that are nearly zero.
        torch.testing.assert_close(one, other, rtol=1e-3, atol=3e-4)


def test_a_batch_that_microbatches_do_not_divide_is_refused(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="batch_size 5 cannot be cut into 1 processes x 2 microbatches"):
        train(fresh, objective, CONFIG, seed=1, folder=tmp_path, run_id="r", launch=LaunchConfig(accumulate=2))


def test_recomputed_blocks_train_to_the_same_weights(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path
) -> None:
    plain = trained(objective, fresh, tmp_path / "plain")
    again = train(
        Student(fresh.config).init(5), objective, CONFIG, seed=11, folder=tmp_path / "again", run_id="r",
        launch=LaunchConfig(recompute=True),
    )  # fmt: skip
    assert digest_of(again) == digest_of(plain)


def test_a_save_that_fails_is_noticed_at_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    saver = Saver(tmp_path / "file", "r", World(), "aa")
    saver.save(1, {"model": {"w": torch.ones(2)}}, {})
    assert saver._pending is not None
    concurrent.futures.wait([saver._pending])
    with pytest.raises(NotADirectoryError):
        saver.check()


def test_a_process_that_never_writes_its_share_leaves_no_seal(tmp_path: Path) -> None:
    checkpoint.write_share(tmp_path / "step-1", 0, {"model": {"w": torch.ones(2)}}, {})
    with pytest.raises(TimeoutError, match="1 of 2 processes"):
        checkpoint.seal(tmp_path / "step-1", 1, "r", processes=2, within_s=0.05)
    assert checkpoint.newest(tmp_path, "r") is None


def test_training_reads_no_memory_that_it_has_not_written(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fresh memory full of NaN changes nothing, so leaving it unfilled is safe."""
    straight = trained(objective, fresh, tmp_path / "straight")
    mode: Any = torch.utils.deterministic
    assert mode.fill_uninitialized_memory  # as it was
    monkeypatch.setattr(loop, "deterministic_mode", _filled)
    assert digest_of(trained(objective, Student(fresh.config).init(5), tmp_path / "filled")) == digest_of(straight)


@contextmanager
def _filled(enabled: bool, threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(threads or before)
    assert torch.empty(3).isnan().all()
    yield
    torch.set_num_threads(before)
    torch.use_deterministic_algorithms(False)


def test_training_learns_the_features(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 150, "checkpoint_every": 1000, "log_every": 30})
    rows = [json.loads(row) for row in trained(objective, fresh, tmp_path, config).log]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert set(rows[0]) == {"step", "loss", "lr", "grad_norm"}  # and no clock


def test_what_dpo_does_not_train_stays_and_trains_again_with_another_objective(
    objective: MaskedDiffusion, pairs: FeaturesInMemory, student: Student, tmp_path: Path
) -> None:
    """The null text has no gradient in DPO, so weight decay must not pull it either."""
    reference = LiveReference(copy.deepcopy(student).requires_grad_(False))
    preference = Preference(pairs, reference, PairErrorEstimator(copies=1, seed=0), batch_size=6, beta=5.0)
    before = student.null_text.detach().clone()
    run = trained(preference, student, tmp_path / "dpo")
    assert torch.equal(run.student.null_text, before)
    assert torch.equal(run.ema.null_text, before)
    run = trained(objective, student, tmp_path / "pretrain")
    assert not torch.equal(run.student.null_text, before)


def test_one_process_notices_what_many_would_wait_for(
    pairs: FeaturesInMemory, student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = LiveReference(copy.deepcopy(student).requires_grad_(False))
    preference = Preference(pairs, reference, PairErrorEstimator(copies=1, seed=0), batch_size=6, beta=5.0)
    monkeypatch.setattr(Preference, "untrained", lambda *_: [])
    with pytest.raises(AssertionError, match="no gradient came to null_text: the objective's `untrained`"):
        trained(preference, student, tmp_path)


def test_bfloat16_reaches_the_loss_but_not_the_weights(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path
) -> None:
    exact = trained(objective, fresh, tmp_path / "a", CONFIG.model_copy(update={"precision": "fp32"}))
    half = trained(
        objective, Student(fresh.config).init(5), tmp_path / "b", CONFIG.model_copy(update={"precision": "bf16"})
    )
    assert all(value.dtype == torch.float32 for value in half.student.state_dict().values())
    first, second = (json.loads(run.log[0])["loss"] for run in (exact, half))
    assert first != second
    assert first == pytest.approx(second, rel=0.02)
