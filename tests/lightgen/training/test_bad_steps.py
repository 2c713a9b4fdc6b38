"""Steps that are not taken: skipped, counted, gone back from, and the advice where nothing helps."""

import copy
import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightgen.errors import TrainingDiverged
from lightgen.model.student import Student
from lightgen.training import loop, state
from lightgen.training.data import Batch
from lightgen.training.objectives import MaskedDiffusion, Metrics, Microbatch
from tests.forks import FORK, Forked
from tests.lightgen.training.loop_run import CONFIG, STEPS, Dies, Poisoned, Spiked, Wrapped, digest_of, trained


def test_bad_steps_are_skipped_and_counted(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    run = trained(Poisoned.around(objective, 3, 4), fresh, tmp_path)
    skipped = [json.loads(row)["step"] for row in run.log if "skipped" in row]
    assert skipped == [4, 5]
    assert all(torch.isfinite(value).all() for value in run.student.state_dict().values())


def test_a_spike_is_skipped_and_a_usual_step_is_not(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SPIKE_AFTER", 5)
    run = trained(Spiked.around(objective, 3, 8), fresh, tmp_path)
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
    longer = trained(Poisoned.around(objective, 4, 5), fresh, tmp_path / "a", config.model_copy(update={"steps": 6}))
    shorter = trained(objective, twin, tmp_path / "b", config)
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
    trained(objective, fresh, tmp_path, CONFIG.model_copy(update={"steps": 2}))
    assert order == ["ask", "step", "read"] * 2


def test_bad_steps_in_a_row_go_back_to_the_checkpoint_and_on_with_other_data(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path
) -> None:
    """Steps 5 and 6 are poisoned: back to the checkpoint of 4, whose next data are those of step 7."""
    config = CONFIG.model_copy(update={"max_bad_steps": 2})
    run = trained(Poisoned.around(objective, 5, 6), fresh, tmp_path, config)
    assert run.step == STEPS
    assert (run.rollbacks, run.skipped_batches) == (1, 3)
    rows = [json.loads(row) for row in run.log]
    assert [row["rolled_back_to"] for row in rows if "rolled_back_to" in row] == [4]
    assert rows[-1]["step"] == STEPS
    killed = Student(fresh.config).init(5)
    resumed = trained(Poisoned.around(objective, 5, 6), killed, tmp_path / "other", config)
    assert digest_of(resumed) == digest_of(run)


def test_resume_after_a_rollback_is_bit_exact(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_bad_steps": 2})
    poisoned = Poisoned.around(objective, 5, 6)
    straight = trained(poisoned, fresh, tmp_path / "straight", config)

    def dies_late() -> None:
        torch.set_num_threads(1)
        both = type("Both", (Dies,), {"loss": _both})
        trained(both.around(objective, 13), Student(fresh.config).init(5), tmp_path / "broken", config)

    process = Forked(target=dies_late)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed = trained(poisoned, Student(fresh.config).init(5), tmp_path / "broken", config)
    assert digest_of(resumed) == digest_of(straight)
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
        trained(Poisoned.around(objective, *poisoned), fresh, tmp_path, config)


def test_a_run_that_took_no_step_at_all_is_no_trained_student(
    objective: MaskedDiffusion, fresh: Student, tmp_path: Path
) -> None:
    """It is shorter than the number of bad steps that ends a longer one; started again it ends the same."""
    config = CONFIG.model_copy(update={"steps": 5})
    for _ in range(2):
        with pytest.raises(TrainingDiverged, match=r"5 steps in a row .*until step 5\. Lower optimizer\.lr"):
            trained(Poisoned.around(objective, *range(5)), fresh, tmp_path, config)


def test_a_full_disk_is_said_with_what_to_do(objective: MaskedDiffusion, fresh: Student, tmp_path: Path) -> None:
    """In a process whose files may not grow beyond 1,000 bytes: the weights are the first that do not fit."""
    said = FORK.Queue()
    process = Forked(target=_in_no_space, args=(objective, fresh, tmp_path, said))
    process.start()
    kind, message = said.get(timeout=60)
    process.join()
    assert kind == "StoreFull"
    assert str(tmp_path) in message
    assert "free some space and run the same command again" in message
    run = trained(objective, fresh, tmp_path)
    assert run.step == STEPS


def _in_no_space(objective: MaskedDiffusion, student: Student, folder: Path, said: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        trained(objective, student, folder)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test says so
        said.put((type(error).__name__, str(error)))
    else:
        said.put(("", ""))
