"""Processes of a run: their progress is followed, their failure told, and nothing outlives who started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightgen.engines.lines import REFUSAL_MARK
from lightgen.errors import ConfigError, StoreAccess, TrainingFailed
from lightgen.progress import SILENT
from lightgen.training import torchrun
from lightgen.training.launch import LaunchConfig
from lightgen.training.torchrun import report_refusals, run_processes

ROOT = Path(__file__).parents[3]
HERE = "tests.lightgen.training"
TWO = LaunchConfig(processes=2)
STARTER = f"""
import os, signal, sys
from pathlib import Path
from lightgen.progress import SILENT
from lightgen.training.launch import LaunchConfig
from lightgen.training.torchrun import run_processes
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
job = Path(sys.argv[1]) / "job"
job.write_text(str(os.getpid()))
run_processes("{HERE}.sleeping_rank", job, LaunchConfig(processes=2), "r", SILENT)
"""


class Heard:
    """Remembers what progress said."""

    def __init__(self) -> None:
        self.said: list[tuple] = []

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.said.append(("start", title, total, unit))

    def advance(self, count: int, note: str = "") -> None:
        self.said.append(("advance", count, note))

    def picture(self, path: Path) -> None:
        self.said.append(("picture", path))

    def finish(self) -> None:
        self.said.append(("finish",))


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _gone(processes: list[int], within_s: float) -> bool:
    give_up = time.monotonic() + within_s
    while time.monotonic() < give_up:
        if not any(_alive(process) for process in processes):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["cancelled", "killed"])
def test_no_process_outlives_its_starter(tmp_path: Path, sign: signal.Signals) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], cwd=ROOT, env=env)
    give_up = time.monotonic() + 120
    while len(found := list(tmp_path.glob("rank-*"))) < 2 or not all(path.read_text() for path in found):
        assert starter.poll() is None, "the starter ended"
        assert time.monotonic() < give_up, "the processes did not start"
        time.sleep(0.1)
    ranks = [int(path.read_text()) for path in found]
    assert all(_alive(rank) for rank in ranks)
    starter.send_signal(sign)
    starter.wait(30)
    assert _gone(ranks, within_s=60)


def test_failure_is_told_with_the_last_lines_and_progress_was_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchrun, "MAX_RESTARTS", 0)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    heard = Heard()
    with pytest.raises(TrainingFailed, match="the disk is full"):
        run_processes(f"{HERE}.failing_rank", tmp_path / "job", TWO, "r", heard)
    assert heard.said == [("start", "train", 7, "steps"), ("advance", 3, "loss 0.5"), ("picture", Path("grid.png"))]


def test_what_the_user_must_mend_is_told_at_once_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(ConfigError, match=r"^batch_size 7 cannot be cut:\nthe second line$"):
        run_processes(f"{HERE}.refusing_rank", tmp_path / "job", TWO, "r", SILENT)
    assert len((tmp_path / "starts").read_text().splitlines()) <= 2


@pytest.mark.parametrize(
    ("error", "told"),
    [(TrainingFailed("x"), False), (StoreAccess("x"), False), (OSError("x"), False), (ConfigError("x"), True)],
)
def test_only_what_another_start_would_find_again_is_a_refusal(
    error: Exception, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)), report_refusals():
        raise error
    assert (REFUSAL_MARK in capsys.readouterr().out) is told


def test_machines_meet_at_the_rendezvous() -> None:
    many = LaunchConfig(processes=8, nodes=4, rendezvous="host:29500")
    assert many.size == 32
    assert torchrun._rendezvous(many, "run") == [
        "--nnodes", "4", "--rdzv-backend", "c10d", "--rdzv-endpoint", "host:29500", "--rdzv-id", "run",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="need a rendezvous"):
        LaunchConfig(nodes=2)
