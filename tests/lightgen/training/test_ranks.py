"""Many processes take the steps of one, whatever the objective trains, and go on bit for bit after a death."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch

from lightgen.model.precision import TrainingPrecision
from lightgen.training import checkpoint
from lightgen.training.launch import Strategy
from lightgen.training.ranks import World
from lightgen.training.torchrun import child_env
from tests.lightgen.training.rank_jobs import ObjectiveName, TinyRun, train_tiny, train_with_nothing_frozen
from tests.lightgen.training.rank_pool import RankPool
from tests.lightgen.training.tiny_run import tiny_student

pytestmark = pytest.mark.xdist_group("ranks")

ROOT = Path(__file__).parents[3]
# A bias of keys shifts all scores of a query alike: its true gradient is zero, and Adam makes steps of the rounding.
KEYLESS = ("qkv.bias", "key_value.bias")
CHILD = "tests.lightgen.training.rank_child"
STRATEGIES = ["ddp", "fsdp"]
OBJECTIVES = ["pretrain", "sft", "dpo", "dpo, cached reference"]
CORE = [("dpo", "fsdp", 2, 1), ("dpo, cached reference", "ddp", 4, 2), ("sft", "fsdp", 2, 2)]
APART = 0.1  # of the way that a run of four steps goes
NOTHING_VISIBLE = {"mean": 1.0, "std": 1e-6, "low": 0.999}


def _alone(settings: TinyRun) -> dict:
    """The same run in this process."""
    return train_tiny(World(), settings)


def _together(pool: RankPool, processes: int, settings: TinyRun) -> dict:
    """What the processes come to, all of them the same."""
    first, *others = pool.run(processes, train_tiny, settings)
    assert all(other == first for other in others)
    return first


def _torchrun(settings: TinyRun, processes: int) -> dict:
    """What processes come to that torchrun starts, and starts again as often as one dies."""
    job = settings.folder / "job.json"
    job.write_text(json.dumps(asdict(settings), default=str))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["--max-restarts", str(len(settings.dies_at)), "-m", CHILD, str(job)]
    env = child_env() | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(job.with_name("result.json").read_text())


def _assert_close(found: dict, expected: dict, atol: float = 1e-5) -> None:
    for group in ("model", "ema"):
        for name, value in expected[group].items():
            if name.endswith(KEYLESS):
                continue
            torch.testing.assert_close(
                torch.tensor(found[group][name]), torch.tensor(value), rtol=1e-3, atol=atol, msg=f"{group}.{name}"
            )
    _assert_logs_close(found, expected)


def _apart(found: dict, expected: dict) -> float:
    """How far apart two runs end, over how far they went."""
    start = tiny_student(0.0).state_dict()
    apart = went = 0.0
    for name, value in expected["model"].items():
        if not name.endswith(KEYLESS):
            apart += float((torch.tensor(found["model"][name]) - torch.tensor(value)).square().sum())
            went += float((start[name] - torch.tensor(value)).square().sum())
    return (apart / went) ** 0.5


def _assert_logs_close(found: dict, expected: dict) -> None:
    for ours, theirs in zip(found["log"], expected["log"], strict=True):
        ours, theirs = json.loads(ours), json.loads(theirs)
        assert (ours["loss"], ours["grad_norm"]) == pytest.approx((theirs["loss"], theirs["grad_norm"]), rel=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict]:
    """The run of an objective in one process, once for all worlds."""
    return cache(lambda objective, steps: _alone(TinyRun(tmp_path_factory.mktemp("alone"), objective, steps=steps)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict]:
    """The run of an objective with two shares of hidden tokens a step, in one process."""

    def run(objective: ObjectiveName, precision: TrainingPrecision) -> dict:
        folder = tmp_path_factory.mktemp("mixed")
        return _alone(TinyRun(folder, objective, accumulate=2, steps=4, precision=precision, ratios=2))

    return cache(run)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, rank_pool: RankPool) -> dict:
    """An undisturbed run of two processes with dropout."""
    return _together(rank_pool, 2, TinyRun(tmp_path_factory.mktemp("two"), dropout=0.1, checkpoint_every=2))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("processes", "accumulate"), [(2, 2), (4, 1)], ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_world_takes_the_same_steps(
    rank_pool: RankPool, alone: Callable[..., dict], tmp_path: Path, objective: ObjectiveName, processes: int,
    accumulate: int, strategy: Strategy,
) -> None:  # fmt: skip
    found = _together(rank_pool, processes, TinyRun(tmp_path, objective, strategy, accumulate, steps=4))
    _assert_close(found, alone(objective, 4))


EVERY_WORLD = [(2, 1), (2, 2), (4, 1), (4, 2)]  # processes, microbatches of each


@pytest.mark.parametrize(
    ("objective", "strategy", "processes", "accumulate", "precision"),
    [
        pytest.param(
            objective,
            strategy,
            *world,
            precision,
            marks=[] if (objective, strategy, *world) in CORE else pytest.mark.long,
        )
        for objective, strategy, world, precision in product(OBJECTIVES, STRATEGIES, EVERY_WORLD, ["bf16", "fp32"])
    ],
)
def test_every_world_takes_the_same_steps_with_two_shares_of_hidden_tokens(
    rank_pool: RankPool, mixed: Callable[..., dict], tmp_path: Path, objective: ObjectiveName, strategy: Strategy,
    processes: int, accumulate: int, precision: TrainingPrecision,
) -> None:  # fmt: skip
    """As one process does. In bfloat16 a weight whose gradient is mostly rounding may go either way by steps of Adam.
    So the way that all weights went is compared.
    """
    settings = TinyRun(tmp_path, objective, strategy, accumulate, steps=4, precision=precision, ratios=2)
    found, expected = _together(rank_pool, processes, settings), mixed(objective, precision)
    if precision == "fp32":
        _assert_close(found, expected)
    assert _apart(found, expected) < APART


def test_null_control_other_shares_of_hidden_tokens_go_another_way(
    mixed: Callable[..., dict], alone: Callable[..., dict]
) -> None:
    for objective in OBJECTIVES:
        assert _apart(alone(objective, 4), mixed(objective, "fp32")) > 3 * APART


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("objective", "student", "masks"),
    [
        ("pretrain", {"text": "late"}, {}),
        ("dpo", {"text": "late"}, {}),
        ("pretrain", {"text_drop": 1.0}, NOTHING_VISIBLE),
        ("dpo", {"text": "late", "text_depth": 1}, NOTHING_VISIBLE),
    ],
    ids=["no block reads the text", "nor in dpo", "no caption and no visible token", "no visible token in dpo"],
)
def test_what_a_student_lacks_is_waited_for_by_nobody(
    rank_pool: RankPool, tmp_path: Path, objective: ObjectiveName, student: dict, masks: dict, strategy: Strategy
) -> None:
    one = TinyRun(tmp_path / "one", objective, strategy, steps=3, student=student, masks=masks)
    # Not the weights: where all keys are equal, queries have no true gradient either.
    _assert_logs_close(_together(rank_pool, 2, replace(one, folder=tmp_path / "two")), _alone(one))


def test_null_control_ddp_waits_for_parameters_that_are_not_frozen(rank_pool: RankPool, tmp_path: Path) -> None:
    names = [name for name, _ in tiny_student().named_parameters()]
    with pytest.raises(RuntimeError, match=f"did not receive grad for rank 0: {names.index('null_text')}\n"):
        rank_pool.run(2, train_with_nothing_frozen, TinyRun(tmp_path, "dpo", steps=2))


def test_torchrun_starts_a_killed_rank_again_and_nothing_changes(two: dict, tmp_path: Path) -> None:
    settings = TinyRun(tmp_path, dropout=0.1, checkpoint_every=2, dies_at=(8,))
    assert _torchrun(settings, processes=2) == two


@pytest.mark.parametrize(
    ("objective", "strategy", "at", "checkpoints", "precision"),
    [
        ("pretrain", "ddp", 1, 0, "fp32"),
        ("pretrain", "fsdp", 3, 1, "fp32"),
        ("dpo, cached reference", "ddp", 3, 1, "fp32"),
        *(
            pytest.param(objective, strategy, 3, 1, precision, marks=pytest.mark.long)
            for objective in OBJECTIVES[1:]
            for strategy in STRATEGIES
            for precision in ("bf16", "fp32")
        ),
    ],
)
def test_a_run_goes_on_bit_for_bit_after_a_kill(
    rank_pool: RankPool, tmp_path: Path, objective: ObjectiveName, strategy: Strategy, at: int, checkpoints: int,
    precision: TrainingPrecision,
) -> None:  # fmt: skip
    """Before the first checkpoint, and after it; with two microbatches of different shares of hidden tokens."""
    straight = TinyRun(
        tmp_path / "straight", objective, strategy, 2, steps=5, dropout=0.1, checkpoint_every=2, precision=precision,
        ratios=2,
    )  # fmt: skip
    broken = replace(straight, folder=tmp_path / "broken", dies_at=(at,))
    with pytest.raises(RuntimeError, match=r"abruptly|closed by peer|reset by peer|Broken pipe"):
        rank_pool.run(2, train_tiny, broken)
    assert len(list(broken.folder.glob("step-*/manifest.json"))) == checkpoints
    resumed = _together(rank_pool, 2, replace(broken, dies_at=()))
    assert resumed == _together(rank_pool, 2, straight)


def test_a_checkpoint_of_two_is_finished_by_four(
    rank_pool: RankPool, alone: Callable[..., dict], tmp_path: Path
) -> None:
    """A sharded run of two processes whose last checkpoint is lost goes on, whole, in a world of another size."""
    settings = TinyRun(tmp_path, strategy="fsdp", steps=4, checkpoint_every=2)
    _together(rank_pool, 2, settings)
    (max(tmp_path.glob("step-*")) / "manifest.json").unlink()
    newest = checkpoint.newest(tmp_path, "r")
    assert newest is not None
    assert newest[0] == 2
    _assert_close(_together(rank_pool, 4, replace(settings, strategy="ddp")), alone("pretrain", 4))


def test_null_control_other_data_make_other_weights(two: dict, alone: Callable[..., dict]) -> None:
    """Dropout alone moves the weights far beyond the tolerance of the comparisons above."""
    calm = alone("pretrain", 9)["model"]
    moved = [(torch.tensor(two["model"][name]) - torch.tensor(value)).abs().max() for name, value in calm.items()]
    assert float(max(moved)) > 1e-3
