"""The engine `processes`: one device a worker, one pool a run, and no death that is not noticed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lightgen.engines import processes
from lightgen.engines.crew import Crew
from lightgen.engines.devices import Device, devices
from lightgen.engines.processes import Processes
from lightgen.errors import ConfigError, InputCorrupt, WorkersLost
from lightgen.storage.store import open_or_create
from lightgen.work import Context, Needs, RunConfig
from tests.lightgen.engines.notes import NotesConfig, marked, notes, processes_of, work_of

ROOT = Path(__file__).parents[3]
TWO = RunConfig(engine="processes", workers=2)
PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored in the background
from lightgen.storage.store import open_or_create
from lightgen.work import Context, RunConfig
from tests.lightgen.engines.notes import NotesConfig, notes
if __name__ == "__main__":
    config = NotesConfig(shards=8, seconds=30, marks=sys.argv[2])
    notes(config, Context(open_or_create(sys.argv[1]), run=RunConfig(engine="processes", workers=2)))
"""


@pytest.fixture
def marks(tmp_path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(open_or_create(str(tmp_path / "store")), run=TWO)


def wait_until(what, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def gone(process: int) -> bool:
    try:
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Killer(Processes):
    """Kills workers with SIGKILL while the stage runs: `kills` of them, each in a shard; then it opens `gate`."""

    def __init__(self, config: RunConfig, marks: Path, kills: int, gate: Path) -> None:
        super().__init__(config)
        self.marks, self.kills, self.gate, self.killed = marks, kills, gate, set[int]()
        hear = self.crew.hear

        def hear_and_kill(patience_s: float):
            self.strike()
            return hear(min(patience_s, 0.1))

        self.crew.hear = hear_and_kill

    def strike(self) -> None:
        for process in processes_of(self.marks, "begun") - self.killed:
            if len(self.killed) < self.kills and not gone(process):
                os.kill(process, signal.SIGKILL)
                self.killed.add(process)
        if len(self.killed) == self.kills and all(map(gone, self.killed)):
            self.gate.touch()


def test_what_a_killed_worker_had_is_made_by_the_others(tmp_path, marks, context):
    gate = tmp_path / "gate"
    expected = notes(NotesConfig(shards=6), Context(open_or_create(str(tmp_path / "quiet")))).fingerprint
    with Killer(TWO, marks, kills=1, gate=gate) as engine:
        config = NotesConfig(shards=6, marks=str(marks), gate=str(gate))
        assert notes(config, replace(context, engine=engine)).fingerprint == expected
    assert len(engine.killed) == 1
    assert marked(marks, "ended") == [f"{shard:05d}" for shard in range(6)]


def test_a_stage_whose_workers_all_die_says_so_and_goes_on_with_the_same_command(tmp_path, marks, context):
    gate = tmp_path / "gate"
    config = NotesConfig(shards=4, marks=str(marks), gate=str(gate))
    with (
        Killer(TWO, marks, kills=2, gate=gate) as engine,
        pytest.raises(WorkersLost, match="all 2 worker processes have ended before the stage did"),
    ):
        notes(config, replace(context, engine=engine))
    gate.touch()
    notes(config, context)
    assert marked(marks, "ended") == [f"{shard:05d}" for shard in range(4)]


def test_an_error_that_every_worker_meets_is_raised_as_it_is(context):
    with pytest.raises(InputCorrupt, match=r"^shard 1 cannot be read$"):
        notes(NotesConfig(fails=(1,)), context)


def test_a_mistake_of_the_programmer_is_told_with_the_last_lines(context):
    with pytest.raises(WorkersLost, match="RuntimeError: a mistake of the programmer in shard 1"):
        notes(NotesConfig(breaks=(1,)), context)


def test_a_worker_that_fails_alone_does_not_stop_the_others(marks, context):
    """One process cannot write its marks, as one GPU of eight may be broken."""
    with Processes(TWO) as engine:
        first, second = engine.crew.start(work_of(NotesConfig(name="b"), context), [Device("", 1)] * 2)
        wait_until(lambda: first.given and second.given)
        os.kill(first.process.pid, signal.SIGSTOP)
        notes(NotesConfig(shards=3, marks=str(marks)), replace(context, engine=engine))
        assert processes_of(marks) == {second.process.pid}
        os.kill(first.process.pid, signal.SIGCONT)


def test_every_worker_sees_one_device_and_its_share_of_the_cores(marks, context, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # what a user sets stays
    crew = Crew()
    try:
        crew.start(
            work_of(NotesConfig(shards=2, marks=str(marks), workers=2), context),
            [Device("GPU-a", 3), Device("GPU-b", 3)],
        )
        wait_until(lambda: len(marked(marks, "opened")) == 2)
    finally:
        crew.close(grace_s=0.0)
    seen = [path.read_text() for path in marks.glob("opened-*")]
    assert sorted(gpu for text in seen for gpu in ("GPU-a", "GPU-b") if f"'CUDA_VISIBLE_DEVICES': '{gpu}'" in text) == [
        "GPU-a",
        "GPU-b",
    ]
    assert all(" cuda " in text and "'OMP_NUM_THREADS': '3'" in text for text in seen)


def test_one_pool_serves_all_stages_of_a_run_and_is_closed_before_a_job(tmp_path, context):
    used = []
    with Processes(TWO) as engine:
        given = replace(context, engine=engine)
        for name in ("a", "b"):
            marks = tmp_path / name
            marks.mkdir()
            notes(NotesConfig(name=name, shards=8, marks=str(marks), workers=2), given)
            used.append(processes_of(marks))
        assert used[0] == used[1]
        assert len(used[0]) == 2
        notes(NotesConfig(name="c", sort="job", marks=str(marks)), given)
        assert os.getpid() in processes_of(marks)
        assert all(gone(process) for process in used[0])


def test_auto_starts_no_process_for_a_stage_that_is_over_before_it_could_help(tmp_path, marks, context, monkeypatch):
    auto, long = replace(context, run=RunConfig(engine="processes", device="cpu")), tmp_path / "long"
    notes(NotesConfig(marks=str(marks)), auto)
    assert processes_of(marks) == {os.getpid()}
    long.mkdir()
    start = Crew.start

    def start_late(*arguments):
        wait_until(lambda: marked(long, "begun"))  # by this process, which has no other to begin before it
        return start(*arguments)

    monkeypatch.setattr(Crew, "start", start_late)
    monkeypatch.setattr(processes, "SHORT_S", 0.1)
    monkeypatch.setattr("lightgen.engines.devices.cores", lambda: 2)
    notes(NotesConfig(name="b", shards=12, marks=str(long), workers=3), auto)
    assert len(processes_of(long)) == 3, "this one until the two are there"
    assert marked(long, "ended") == [f"{shard:05d}" for shard in range(12)]


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_no_worker_outlives_its_parent(tmp_path, marks, sign):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PARENT, str(tmp_path / "store"), str(marks)]
    parent = subprocess.Popen(command, cwd=ROOT, env=env)
    wait_until(lambda: len(processes_of(marks, "begun")) == 2)
    workers = processes_of(marks, "begun")
    parent.send_signal(sign)
    parent.wait(30)
    wait_until(lambda: all(gone(worker) for worker in workers))


def test_more_workers_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("lightgen.engines.devices.visible_gpus", lambda: ["GPU-a", "GPU-b"])
    monkeypatch.setattr("lightgen.engines.devices.cores", lambda: 16)
    gpu = Needs(gpu=True)
    assert devices(RunConfig(engine="processes"), gpu) == [Device("GPU-a", 8), Device("GPU-b", 8)]
    assert devices(RunConfig(engine="processes", workers=1), gpu) == [Device("GPU-a", 16)]
    assert devices(RunConfig(engine="processes", device="cpu"), gpu) == [Device("", 1)] * 16
    assert devices(RunConfig(engine="processes", workers=4), Needs()) == [Device("", 4)] * 4
    with pytest.raises(ConfigError, match="workers is 3, but this process sees 2 GPUs"):
        devices(RunConfig(engine="processes", workers=3), gpu)
    monkeypatch.setattr("lightgen.engines.devices.visible_gpus", list)
    with pytest.raises(ConfigError, match="shows no GPU"):
        devices(RunConfig(engine="processes", device="cuda"), gpu)
