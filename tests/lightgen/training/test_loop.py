"""The loop: learns, resumes bit-exactly after SIGKILL, refuses foreign checkpoints, stops when it diverges."""

import hashlib
import json
import logging
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lightgen.errors import ResumeMismatch, TrainingDiverged
from lightgen.model.student import Student
from lightgen.training import checkpoint, loop
from lightgen.training.data import FeatureSet
from lightgen.training.loop import LoopConfig, Run, train
from lightgen.training.objectives import MaskedDiffusion, Objective
from lightgen.training.optimizer import OptimizerConfig, learning_rate, make_optimizers

STEPS = 12
CONFIG = LoopConfig(
    steps=STEPS, optimizer=OptimizerConfig(lr=3e-3, warmup_steps=3, decay="cosine"), ema=0.9, log_every=5,
    checkpoint_every=4, threads=1,
)  # fmt: skip


class Dies:
    """An objective that kills its process at a step, as the kernel would."""

    def __init__(self, inner: Objective, at: int) -> None:
        self.inner, self.at = inner, at

    def loss(self, student: Student, step: int) -> tuple[Tensor, dict[str, float]]:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.loss(student, step)


class Poisoned:
    """An objective without a finite loss at some steps."""

    def __init__(self, inner: Objective, steps: set[int]) -> None:
        self.inner, self.steps = inner, steps

    def loss(self, student: Student, step: int) -> tuple[Tensor, dict[str, float]]:
        loss, figures = self.inner.loss(student, step)
        return (loss * float("nan") if step in self.steps else loss), figures


def _train(objective: Objective, student: Student, folder: Path, config: LoopConfig = CONFIG, run_id: str = "r") -> Run:
    return train(student, objective, config, seed=11, folder=folder, run_id=run_id)


def _digest(run: Run) -> str:
    parts = [*run.student.state_dict().values(), *run.average.state_dict().values()]
    for optimizer in run.optimizers:
        state = optimizer.state_dict()["state"]
        parts += [state[number][name] for number in sorted(state) for name in sorted(state[number])]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


@pytest.fixture
def objective(features: FeatureSet) -> MaskedDiffusion:
    return MaskedDiffusion(features, batch_size=5, copies=2, seed=11)


@pytest.fixture
def fresh(student: Student) -> Student:
    return Student(student.config).init(5)


def _killed(objective: MaskedDiffusion, student: Student, folder: Path, at: int, config: LoopConfig = CONFIG) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_train, args=(Dies(objective, at), student, folder, config)
    )
    torch.set_num_threads(1)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("kills", [[2], [4], [5, 9, 11]], ids=str)
def test_resume_after_sigkill_is_bit_exact(
    kills: list[int], objective: MaskedDiffusion, student: Student, fresh: Student, tmp_path: Path
) -> None:
    straight = _train(objective, fresh, tmp_path / "straight")
    for at in kills:
        _killed(objective, Student(student.config).init(5), tmp_path / "broken", at)
    resumed = _train(objective, Student(student.config).init(5), tmp_path / "broken")
    assert _digest(resumed) == _digest(straight)
    assert resumed.rows == straight.rows


def test_resume_with_muon_in_bfloat16_is_bit_exact(
    objective: MaskedDiffusion, student: Student, fresh: Student, tmp_path: Path
) -> None:
    muon = OptimizerConfig(kind="muon", lr=3e-3, warmup_steps=3, decay="cosine")
    config = CONFIG.model_copy(update={"optimizer": muon, "precision": "bf16"})
    straight = _train(objective, fresh, tmp_path / "straight", config)
    assert len(straight.optimizers) == 2
    for at in (5, 9):
        _killed(objective, Student(student.config).init(5), tmp_path / "broken", at, config)
    resumed = _train(objective, Student(student.config).init(5), tmp_path / "broken", config)
    assert _digest(resumed) == _digest(straight)


def test_null_control_resume_without_the_optimizer_differs(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = fresh.config
    straight = _train(objective, fresh, tmp_path / "straight")
    _killed(objective, Student(config).init(5), tmp_path / "broken", 9)
    monkeypatch.setattr(loop, "_restore_optimizers", lambda *_: None)
    resumed = _train(objective, Student(config).init(5), tmp_path / "broken")
    assert _digest(resumed) != _digest(straight)


def test_a_finished_run_is_not_trained_again(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    first = _digest(_train(objective, fresh, tmp_path))
    again = _train(Dies(objective, 0), Student(fresh.config).init(9), tmp_path)
    assert _digest(again) == first


def test_a_damaged_checkpoint_falls_back_with_a_warning(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = _digest(_train(objective, fresh, tmp_path))
    newest = checkpoint.newest(tmp_path, "r")
    assert newest is not None
    weights = newest[1] / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[len(raw) // 2] ^= 1
    weights.write_bytes(raw)
    with caplog.at_level(logging.WARNING):
        again = _train(objective, Student(fresh.config).init(9), tmp_path)
    assert "falling back" in caplog.text
    assert _digest(again) == first


def test_an_unsealed_checkpoint_is_no_checkpoint(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    _train(objective, fresh, tmp_path)
    newest = checkpoint.newest(tmp_path, "r")
    assert newest is not None
    assert newest[0] == STEPS
    (newest[1] / "manifest.json").unlink()
    before = checkpoint.newest(tmp_path, "r")
    assert before is not None
    assert before[0] == 8


def test_another_runs_checkpoint_is_refused(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    _train(objective, fresh, tmp_path)
    with pytest.raises(ResumeMismatch, match="settings, data or seed differ"):
        _train(objective, fresh, tmp_path, run_id="another")


def test_bad_steps_are_skipped_and_counted(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    run = _train(Poisoned(objective, {3, 4}), fresh, tmp_path)
    skipped = [json.loads(row)["step"] for row in run.rows if "skipped" in row]
    assert skipped == [4, 5]
    assert all(torch.isfinite(value).all() for value in run.student.state_dict().values())


def test_divergence_stops_the_run(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_bad_steps": 3})
    with pytest.raises(TrainingDiverged, match="3 steps in a row"):
        _train(Poisoned(objective, set(range(5, 12))), fresh, tmp_path, config)


def test_training_learns_the_features(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"steps": 150, "checkpoint_every": 1000, "log_every": 30})
    rows = [json.loads(row) for row in _train(objective, fresh, tmp_path, config).rows]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert set(rows[0]) == {"step", "loss", "lr", "grad_norm"}  # and no clock


def test_learning_rate_warms_up_in_steps_and_decays() -> None:
    config = OptimizerConfig(lr=2.0, warmup_steps=4, decay="cosine", decay_from=0.5, final_lr=0.1)
    rates = [learning_rate(config, step, 20) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[9] == 2.0
    assert rates[15] == pytest.approx(2 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * 0.5))))
    assert 0.2 < rates[19] < 0.3
    assert learning_rate(OptimizerConfig(lr=1.0), 10**6, 10) == 1.0


def test_weight_decay_spares_biases_norms_and_the_head(fresh: Student) -> None:
    (optimizer,) = make_optimizers(fresh, OptimizerConfig())
    decayed = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0.0]
    for name, parameter in fresh.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim >= 2 and not name.startswith("head."))


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest(fresh: Student) -> None:
    muon, adamw = make_optimizers(fresh, OptimizerConfig(kind="muon"))
    names = {id(parameter): name for name, parameter in fresh.named_parameters()}
    taken = {names[id(parameter)] for group in muon.param_groups for parameter in group["params"]}
    left = {names[id(parameter)] for group in adamw.param_groups for parameter in group["params"]}
    assert taken | left == set(names.values())
    assert not taken & left
    assert "decoder.0.mlp.up.weight" in taken
    assert "head.blocks.0.first.weight" in taken
    for name in ("token_in.weight", "mask_token", "head.blocks.0.modulation.weight", "encoder_positions.table"):
        assert name in left


def test_bfloat16_reaches_the_loss_but_not_the_weights(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path
) -> None:
    exact = _train(objective, fresh, tmp_path / "a", CONFIG.model_copy(update={"precision": "fp32"}))
    half = _train(
        objective, Student(fresh.config).init(5), tmp_path / "b", CONFIG.model_copy(update={"precision": "bf16"})
    )
    assert all(value.dtype == torch.float32 for value in half.student.state_dict().values())
    first, second = (json.loads(run.rows[0])["loss"] for run in (exact, half))
    assert first != second
    assert first == pytest.approx(second, rel=0.02)
