"""The loop: learns, resumes bit-exactly after SIGKILL, refuses foreign checkpoints, stops when it diverges."""

import concurrent.futures
import copy
import hashlib
import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor

from lightgen.errors import ConfigError, ResumeMismatch, TrainingDiverged
from lightgen.model.student import Student
from lightgen.training import checkpoint, loop, state
from lightgen.training.checkpoint import Saver
from lightgen.training.data import Batch, FeaturesInMemory
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import MaskedDiffusion, Metrics, Microbatch, Objective
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.preference import LiveReference, PairErrorEstimator, Preference
from lightgen.training.ranks import World
from lightgen.training.state import TrainState

STEPS = 12
CONFIG = LoopConfig(
    steps=STEPS, optimizer=OptimizerConfig(lr=3e-3, warmup_steps=3, decay="cosine"), ema=0.9, log_every=5,
    checkpoint_every=4, threads=1,
)  # fmt: skip


@dataclass(frozen=True)
class Wrapped(MaskedDiffusion):
    """An objective to which something happens at some steps."""

    steps: frozenset[int] = frozenset()

    @classmethod
    def around(cls, inner: MaskedDiffusion, *steps: int) -> Self:
        given: dict[str, Any] = {field.name: getattr(inner, field.name) for field in fields(inner)}
        given["steps"] = frozenset(steps)
        return cls(**given)


class Dies(Wrapped):
    """Kills its process at a step, as the kernel would."""

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        if microbatch.step in self.steps:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(student, batch, microbatch)


class Poisoned(Wrapped):
    """Has no finite loss at some steps."""

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        loss, metrics = super().loss(student, batch, microbatch)
        return (loss * float("nan") if microbatch.step in self.steps else loss), metrics


class Spiked(Wrapped):
    """Has a loss a thousand times too steep at some steps."""

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        loss, metrics = super().loss(student, batch, microbatch)
        return (loss * 1000 if microbatch.step in self.steps else loss), metrics


def _train(
    objective: Objective, student: Student, folder: Path, config: LoopConfig = CONFIG, run_id: str = "r"
) -> TrainState:
    return train(student, objective, config, seed=11, folder=folder, run_id=run_id)


def _digest(run: TrainState) -> str:
    parts = [*run.student.state_dict().values(), *run.ema.state_dict().values()]
    for optimizer in run.optimizers:
        state = optimizer.state_dict()["state"]
        parts += [state[number][name] for number in sorted(state) for name in sorted(state[number])]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


@pytest.fixture
def objective(features: FeaturesInMemory) -> MaskedDiffusion:
    return MaskedDiffusion(features, batch_size=5, copies=2, seed=11)


@pytest.fixture
def fresh(student: Student) -> Student:
    return Student(student.config).init(5)


def _killed(objective: MaskedDiffusion, student: Student, folder: Path, at: int, config: LoopConfig = CONFIG) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_train, args=(Dies.around(objective, at), student, folder, config)
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
    assert resumed.log == straight.log


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
    monkeypatch.setattr(state, "restore_optimizers", lambda *_: None)
    resumed = _train(objective, Student(config).init(5), tmp_path / "broken")
    assert _digest(resumed) != _digest(straight)


def test_a_finished_run_is_not_trained_again(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    first = _digest(_train(objective, fresh, tmp_path))
    again = _train(Dies.around(objective, 0), Student(fresh.config).init(9), tmp_path)
    assert _digest(again) == first


def test_a_damaged_checkpoint_falls_back_with_a_warning(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = _digest(_train(objective, fresh, tmp_path))
    newest = checkpoint.newest(tmp_path, "r")
    assert newest is not None
    weights = newest[1] / "model.00000.safetensors"
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
    run = _train(Poisoned.around(objective, 3, 4), fresh, tmp_path)
    skipped = [json.loads(row)["step"] for row in run.log if "skipped" in row]
    assert skipped == [4, 5]
    assert all(torch.isfinite(value).all() for value in run.student.state_dict().values())


def test_a_spike_is_skipped_and_a_usual_step_is_not(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SPIKE_AFTER", 5)
    run = _train(Spiked.around(objective, 3, 8), fresh, tmp_path)
    skipped = [json.loads(row) for row in run.log if "skipped" in row]
    assert [row["step"] for row in skipped] == [9]  # step 3 came too early to know what is usual
    assert "usually" in skipped[0]["skipped"]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_skipped_step_leaves_weights_moments_and_average_alone(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, kind: str
) -> None:
    """Poisoned or not, a run of one step more than its last good one ends where that one did."""
    optimizer = CONFIG.optimizer.model_copy(update={"kind": kind, "decay": "constant"})
    config, twin = CONFIG.model_copy(update={"optimizer": optimizer, "steps": 4}), copy.deepcopy(fresh)
    longer = _train(Poisoned.around(objective, 4, 5), fresh, tmp_path / "a", config.model_copy(update={"steps": 6}))
    shorter = _train(objective, twin, tmp_path / "b", config)
    assert (longer.bad_steps, shorter.bad_steps) == (2, 0)
    for one, other in zip(state._tensors(longer), state._tensors(shorter), strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2]), one[:2]


def test_the_step_is_taken_before_its_numbers_are_read(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, which is busy until then, reading waits: the step must be in its queue by that time."""
    order: list[str] = []

    def read_later(values: Tensor) -> Callable[[], list[float]]:
        order.append("ask")
        return lambda: order.append("read") or values.tolist()

    def step(self: torch.optim.AdamW, closure: Any = None) -> Any:
        order.append("step")
        return whole(self, closure)

    whole = torch.optim.AdamW.step
    monkeypatch.setattr(loop, "read_later", read_later)
    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    _train(objective, fresh, tmp_path, CONFIG.model_copy(update={"steps": 2}))
    assert order == ["ask", "step", "read"] * 2


def test_bad_steps_in_a_row_go_back_to_the_checkpoint_and_on_with_other_data(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path
) -> None:
    """Steps 5 and 6 are poisoned: back to the checkpoint of 4, whose next data are those of step 7."""
    config = CONFIG.model_copy(update={"max_bad_steps": 2})
    run = _train(Poisoned.around(objective, 5, 6), fresh, tmp_path, config)
    assert run.step == STEPS
    assert (run.rollbacks, run.skipped_batches) == (1, 3)
    rows = [json.loads(row) for row in run.log]
    assert [row["rolled_back_to"] for row in rows if "rolled_back_to" in row] == [4]
    assert rows[-1]["step"] == STEPS
    killed = Student(fresh.config).init(5)
    resumed = _train(Poisoned.around(objective, 5, 6), killed, tmp_path / "other", config)
    assert _digest(resumed) == _digest(run)


def test_resume_after_a_rollback_is_bit_exact(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_bad_steps": 2})
    poisoned = Poisoned.around(objective, 5, 6)
    straight = _train(poisoned, fresh, tmp_path / "straight", config)

    def dies_late() -> None:
        torch.set_num_threads(1)
        both = type("Both", (Dies,), {"loss": _both})
        _train(both.around(objective, 13), Student(fresh.config).init(5), tmp_path / "broken", config)

    process = multiprocessing.get_context("fork").Process(target=dies_late)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed = _train(poisoned, Student(fresh.config).init(5), tmp_path / "broken", config)
    assert _digest(resumed) == _digest(straight)
    assert resumed.log == straight.log


def _both(self: Wrapped, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
    """Poisoned at steps 5 and 6, dead at the wrapper's."""
    loss, metrics = Dies.loss(self, student, batch, microbatch)  # type: ignore[arg-type]
    return (loss * float("nan") if microbatch.step in (5, 6) else loss), metrics


@pytest.mark.parametrize(("poisoned", "rollbacks"), [(range(1, 4), 3), (range(5, 40), 2), (range(5, 40), 0)], ids=str)
def test_a_run_that_cannot_be_saved_ends_with_advice(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, poisoned: range, rollbacks: int
) -> None:
    """Before the first checkpoint, and after as many rollbacks as are allowed."""
    config = CONFIG.model_copy(update={"max_bad_steps": 3, "max_rollbacks": rollbacks})
    with pytest.raises(TrainingDiverged, match="3 steps in a row"):
        _train(Poisoned.around(objective, *poisoned), fresh, tmp_path, config)


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
    plain = _train(objective, fresh, tmp_path / "plain")
    again = train(
        Student(fresh.config).init(5), objective, CONFIG, seed=11, folder=tmp_path / "again", run_id="r",
        launch=LaunchConfig(recompute=True),
    )  # fmt: skip
    assert _digest(again) == _digest(plain)


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
    straight = _train(objective, fresh, tmp_path / "straight")
    mode: Any = torch.utils.deterministic
    assert mode.fill_uninitialized_memory  # as it was
    monkeypatch.setattr(loop, "deterministic_mode", _filled)
    assert _digest(_train(objective, Student(fresh.config).init(5), tmp_path / "filled")) == _digest(straight)


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
    rows = [json.loads(row) for row in _train(objective, fresh, tmp_path, config).log]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert set(rows[0]) == {"step", "loss", "lr", "grad_norm"}  # and no clock


def test_what_dpo_does_not_train_stays_and_trains_again_with_another_objective(
    objective: MaskedDiffusion, pairs: FeaturesInMemory, student: Student, tmp_path: Path
) -> None:
    """The null text has no gradient in DPO, so weight decay must not pull it either."""
    reference = LiveReference(copy.deepcopy(student).requires_grad_(False))
    preference = Preference(pairs, reference, PairErrorEstimator(copies=1, seed=0), batch_size=6, beta=5.0)
    before = student.null_text.detach().clone()
    run = _train(preference, student, tmp_path / "dpo")
    assert torch.equal(run.student.null_text, before)
    assert torch.equal(run.ema.null_text, before)
    run = _train(objective, student, tmp_path / "pretrain")
    assert not torch.equal(run.student.null_text, before)


def test_one_process_notices_what_many_would_wait_for(
    pairs: FeaturesInMemory, student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = LiveReference(copy.deepcopy(student).requires_grad_(False))
    preference = Preference(pairs, reference, PairErrorEstimator(copies=1, seed=0), batch_size=6, beta=5.0)
    monkeypatch.setattr(Preference, "untrained", lambda *_: [])
    with pytest.raises(AssertionError, match="no gradient came to null_text: the objective's `untrained`"):
        _train(preference, student, tmp_path)


def test_bfloat16_reaches_the_loss_but_not_the_weights(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path
) -> None:
    exact = _train(objective, fresh, tmp_path / "a", CONFIG.model_copy(update={"precision": "fp32"}))
    half = _train(
        objective, Student(fresh.config).init(5), tmp_path / "b", CONFIG.model_copy(update={"precision": "bf16"})
    )
    assert all(value.dtype == torch.float32 for value in half.student.state_dict().values())
    first, second = (json.loads(run.log[0])["loss"] for run in (exact, half))
    assert first != second
    assert first == pytest.approx(second, rel=0.02)
