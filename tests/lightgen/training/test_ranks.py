"""Real torchrun processes: the same step at any world size, bit for bit at the same one, whoever is killed when."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.lightgen.training.tiny_run import tiny_student

ROOT = Path(__file__).parents[3]
# A bias of keys shifts all scores of a query alike: its true gradient is zero, and Adam makes steps of the rounding.
KEYLESS = {name for name, _ in tiny_student().named_parameters() if name.endswith(("qkv.bias", "key_value.bias"))}
CHILD = "tests.lightgen.training.rank_child"


def _train(
    folder: Path, processes: int, strategy: str = "ddp", accumulate: int = 1, dies_at: int = -1, dropout: float = 0.0
) -> dict:
    """What `processes` of torchrun come to."""
    arguments = [str(folder), strategy, str(accumulate), str(dies_at), str(dropout)]
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        "--max-restarts",
        "1",
    ]
    start = [sys.executable, *(torchrun if processes > 1 else []), "-m", CHILD, *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    done = subprocess.run(start, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "result.json").read_text())


def _assert_close(found: dict, expected: dict, atol: float) -> None:
    for group in ("model", "ema"):
        for name, value in expected[group].items():
            if name in KEYLESS:
                continue
            torch.testing.assert_close(
                torch.tensor(found[group][name]), torch.tensor(value), rtol=1e-3, atol=atol, msg=f"{group}.{name}"
            )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return _train(tmp_path_factory.mktemp("alone"), 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return _train(tmp_path_factory.mktemp("two"), 2, dropout=0.1)


@pytest.mark.parametrize(("processes", "strategy", "accumulate"), [(2, "fsdp", 2), (4, "ddp", 1)], ids=str)
def test_every_world_takes_the_same_steps(
    alone: dict, tmp_path: Path, processes: int, strategy: str, accumulate: int
) -> None:
    found = _train(tmp_path, processes, strategy, accumulate)
    _assert_close(found, alone, atol=1e-5)
    losses = [[json.loads(row)["loss"] for row in run["rows"]] for run in (found, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("dies_at", [1, 8])
def test_a_killed_rank_is_started_again_and_nothing_changes(two: dict, tmp_path: Path, dies_at: int) -> None:
    assert _train(tmp_path, 2, dies_at=dies_at, dropout=0.1) == two


def test_sharded_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    straight = _train(tmp_path / "straight", 2, "fsdp", dropout=0.1)
    assert _train(tmp_path / "broken", 2, "fsdp", dies_at=5, dropout=0.1) == straight


def test_a_checkpoint_of_two_is_finished_by_four(alone: dict, tmp_path: Path) -> None:
    """A sharded run of two processes whose last checkpoint is lost goes on, whole, in a world of another size."""
    _train(tmp_path, 2, "fsdp")
    last = max(tmp_path.glob("step-*"))
    (last / "manifest.json").unlink()
    assert json.loads((min(tmp_path.glob("step-*")) / "manifest.json").read_text())["step"] == 8
    _assert_close(_train(tmp_path, 4), alone, atol=1e-5)


def test_null_control_other_data_make_other_weights(two: dict, alone: dict) -> None:
    """Dropout alone moves the weights far beyond the tolerance of the comparisons above."""
    moved = [
        (torch.tensor(two["model"][name]) - torch.tensor(value)).abs().max() for name, value in alone["model"].items()
    ]
    assert float(max(moved)) > 1e-3
