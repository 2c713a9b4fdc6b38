"""GPU slots under real processes: one holder each, freed by any death, taken together without a deadlock."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from lightgen.engines.gpu_slot import gpu_slots, visible_gpus
from lightgen.errors import ConfigError

GPUS = ("GPU-0aa1", "GPU-1bb2")
HOLD = """
import os, sys, time
from pathlib import Path
from lightgen.engines.gpu_slot import gpu_slots
with gpu_slots(sys.argv[2:], folder=Path(sys.argv[1])) as held:
    {before}
    os.write(1, " ".join(held).encode() + b"\\n")  # in one piece, for a child writes there too
    time.sleep(60)
"""
MARKER = """
import os, sys, time
for name in sys.argv[2:]:
    os.close(os.open(f"{sys.argv[1]}/{name}.lock", os.O_CREAT | os.O_EXCL))
print("held", flush=True)
time.sleep(60)
"""
FORK = r'os.fork() or (os.write(1, b"%d\n" % os.getpid()), time.sleep(60), os._exit(0))'


def started(folder, *names, script):
    return subprocess.Popen([sys.executable, "-c", script, str(folder), *names], stdout=subprocess.PIPE, text=True)


def holder(folder, *names, script=HOLD.format(before="pass")):
    """A process that holds `names` now."""
    process = started(folder, *names, script=script)
    assert process.stdout.readline().strip()
    return process


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.wait(10)


def test_a_slot_whose_holder_is_killed_is_free_at_once(tmp_path, caplog):
    killed(holder(tmp_path, *GPUS))
    with caplog.at_level(logging.INFO, "lightgen.engines.gpu_slot"), gpu_slots(GPUS, folder=tmp_path) as held:
        assert held == list(GPUS)
    assert caplog.records == [], "nobody waited"


def test_a_slot_is_free_at_once_though_a_forked_child_of_its_holder_lives_on(tmp_path, caplog):
    process = started(tmp_path, *GPUS, script=HOLD.format(before=FORK))
    [child], names = sorted((process.stdout.readline().split() for _ in range(2)), key=len)
    assert names == list(GPUS)
    killed(process)
    try:
        with caplog.at_level(logging.INFO, "lightgen.engines.gpu_slot"), gpu_slots(GPUS, folder=tmp_path) as held:
            assert held == list(GPUS)
        assert caplog.records == [], "nobody waited"
    finally:
        os.kill(int(child), signal.SIGKILL)  # it was alive all the time


def test_a_mark_without_a_lock_outlives_its_holder(tmp_path):
    """The null control of the test above: what a kernel does not watch stays taken."""
    killed(holder(tmp_path, *GPUS, script=MARKER))
    with pytest.raises(FileExistsError):
        os.open(tmp_path / f"{GPUS[0]}.lock", os.O_CREAT | os.O_EXCL)


def test_who_waits_is_told_who_holds_the_gpu_and_gets_it_afterwards(tmp_path, caplog):
    process = holder(tmp_path, GPUS[1])

    def kill_once_told():
        while not caplog.records:
            time.sleep(0.01)
        killed(process)

    thread = threading.Thread(target=kill_once_told, daemon=True)
    thread.start()
    with caplog.at_level(logging.INFO, "lightgen.engines.gpu_slot"), gpu_slots(GPUS, folder=tmp_path) as held:
        assert held == list(GPUS)
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for 2 of 2 GPUs: {GPUS[1]} (process {process.pid} has it)"
    ]
    thread.join()


def test_a_number_takes_what_is_free(tmp_path):
    process = holder(tmp_path, GPUS[0])
    with gpu_slots(1, folder=tmp_path, visible=lambda: GPUS) as held:
        assert held == [GPUS[1]]
    killed(process)


@pytest.mark.parametrize(
    "wishes",
    [(GPUS, GPUS[::-1]), (2, 2), (GPUS[::-1], 2), (1, 2)],
    ids=["opposite orders", "numbers", "names and a number", "one and two"],
)
def test_takers_of_several_never_share_one_and_never_block_each_other(tmp_path, wishes):
    inside, shared, rounds = dict.fromkeys(GPUS, 0), [], []

    def take(wanted):
        for _ in range(5):
            with gpu_slots(wanted, folder=tmp_path, visible=lambda: GPUS) as held:
                for name in held:
                    inside[name] += 1
                time.sleep(0.01)
                shared.extend(name for name in held if inside[name] != 1)
                for name in held:
                    inside[name] -= 1
            rounds.append(wanted)

    threads = [threading.Thread(target=take, args=(wanted,), daemon=True) for wanted in wishes]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert len(rounds) == 10
    assert shared == []


def test_a_machine_without_gpus_waits_for_nothing(tmp_path):
    with (
        gpu_slots(folder=tmp_path, visible=lambda: []) as all_of_them,
        gpu_slots(2, folder=tmp_path, visible=list) as two,
    ):
        assert all_of_them == two == []
    assert list(tmp_path.iterdir()) == []


def test_more_than_there_are_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"3 GPUs are wanted, but this process sees 2: GPU-0aa1, GPU-1bb2"):
        gpu_slots(3, folder=tmp_path, visible=lambda: GPUS).__enter__()


def test_asking_again_inside_is_a_mistake_and_not_a_deadlock(tmp_path):
    with gpu_slots(GPUS, folder=tmp_path), pytest.raises(AssertionError, match="wait for itself"):
        gpu_slots(GPUS, folder=tmp_path).__enter__()


def test_a_failure_inside_frees_the_slot(tmp_path):
    with pytest.raises(KeyError), gpu_slots(GPUS, folder=tmp_path):
        raise KeyError("a fault")
    with gpu_slots(GPUS, folder=tmp_path) as held:
        assert held == list(GPUS)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/locks.*LIGHTGEN_GPU_LOCKS"):
        gpu_slots(GPUS, folder=tmp_path / "file" / "locks").__enter__()


def test_other_users_may_lock_too_and_nobody_tidies_the_locks_away(tmp_path):
    folder, before = tmp_path / "locks", os.umask(0o077)
    try:
        with gpu_slots(["MIG-GPU-1/7/0"], folder=folder):
            pass
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert {path.name: path.stat().st_mode & 0o7777 for path in folder.iterdir()} == {
        "turn": 0o1666,
        "MIG-GPU-1_7_0.lock": 0o1666,
    }


def test_names_are_those_of_cuda_visible_devices(monkeypatch):
    seen = [SimpleNamespace(name="NVIDIA H100", uuid="8932-aa"), SimpleNamespace(name="H100 MIG 1g.10gb", uuid="77-bb")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(seen))
    monkeypatch.setattr(torch.cuda, "get_device_properties", seen.__getitem__)
    assert visible_gpus() == ["GPU-8932-aa", "MIG-77-bb"]
