"""Claims and heartbeats on real stores: one worker a unit, and what the dead had is free."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lightgen.engines.claims import Claims, Pace, sweep
from lightgen.engines.heartbeats import Heart, Heartbeats
from lightgen.storage.local import LocalFiles
from lightgen.storage.store import open_or_create

ROOT = Path(__file__).parents[3]
FOLDER = "v/captions/" + "0" * 32
A, B, C = "a" * 32, "b" * 32, "c" * 32
HOLDER = """
import sys, time
from lightgen.engines.claims import Claims
from lightgen.engines.heartbeats import Heart, Heartbeats
from lightgen.storage.store import open_or_create
files = open_or_create(sys.argv[1]).files
with Heart(Heartbeats(files, sys.argv[2]), sys.argv[3]) as heart:
    print(Claims(heart.beats, heart.worker, {"00000"}, set).take().name, flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["folder", "s3"])
def files(request, tmp_path):
    where = str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("s3_uri")
    return open_or_create(where).files


def claims_of(files, worker, units=("00000", "00001", "00002"), done=(), **beats):
    return Claims(Heartbeats(files, FOLDER, **beats), worker, units, lambda: set(done), Pace(dice=random.Random(0)))


def aged(files: LocalFiles, worker: str, seconds: float) -> None:
    """The newest heartbeat of `worker` is so old."""
    for path in (files.root / FOLDER / "workers").glob(f"{worker}.*"):
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def wait_until(what, within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_each_unit_goes_to_one_worker_whose_claim_names_it(files):
    units = [f"{unit:05d}" for unit in range(12)]
    taken: dict[str, list[str]] = {A: [], B: [], C: []}
    done: set[str] = set()

    def work(worker: str) -> None:
        with Heart(Heartbeats(files, FOLDER), worker) as heart:
            claims = Claims(heart.beats, worker, units, lambda: set(done))
            while (claim := claims.take()) is not None:
                assert files.read(f"{FOLDER}/claims/{claim.name}").decode() == worker
                taken[worker].append(claim.name)
                time.sleep(0.01)
                done.add(claim.unit)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in taken]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert sorted(itertools.chain(*taken.values())) == [f"{unit}.1" for unit in units]


def test_a_worker_that_stops_beating_is_dead_by_the_stores_own_clock(files):
    """The holder never enters a context, so no lock of this machine speaks for it."""
    began = time.monotonic()  # before the beat, which may take long
    silent = Heart(Heartbeats(files, FOLDER), A)
    silent.beat()
    held = claims_of(files, A, ["00000"]).take()
    assert held is not None
    assert held.name == "00000.1"
    with Heart(Heartbeats(files, FOLDER, beat_s=0.3, dead_s=2.5), B) as heart:
        taken = Claims(heart.beats, B, ["00000"], set).take()
    assert taken is not None
    assert taken.name == "00000.2"
    assert time.monotonic() - began > 1.5, "timestamps of S3 are whole seconds"


@pytest.mark.parametrize(("age_s", "is_dead"), [(100, False), (150, True)])
def test_the_dead_are_those_who_are_silent_for_two_minutes(tmp_path, age_s, is_dead):
    files = open_or_create(str(tmp_path)).files
    Heart(Heartbeats(files, FOLDER), A).beat()
    claims_of(files, A, ["00000"]).take()
    aged(files, A, age_s)
    with Heart(Heartbeats(files, FOLDER), B) as heart:
        looks: list[float] = []
        other = Claims(heart.beats, B, ["00000"], set, Pace(sleep=looks.append))
        found = other.take(stop=lambda: len(looks) > 2)
    assert (found is not None) is is_dead


def test_a_timestamp_in_the_future_does_not_keep_the_dead_alive(tmp_path):
    """The clock of the store was set back by an hour after the worker had died."""
    files = open_or_create(str(tmp_path)).files
    Heart(Heartbeats(files, FOLDER), A).beat()
    aged(files, A, -3600)
    beats, mine = Heartbeats(files, FOLDER), Heart(Heartbeats(files, FOLDER), B)
    mine.beat()
    assert beats.others_alive(B) == {A}
    aged(files, B, -60)
    assert beats.others_alive(B) == {A}
    aged(files, B, -150)
    assert beats.others_alive(B) == set()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "suspended"])
def test_on_one_machine_a_death_is_known_at_once_and_a_pause_after_two_minutes(tmp_path, sign):
    files = open_or_create(str(tmp_path)).files
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), FOLDER, A],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "00000.1\n"
        with Heart(Heartbeats(files, FOLDER), B) as heart:
            other = Claims(heart.beats, B, ["00000"], set, Pace(sleep=lambda _: None))
            looks = iter(range(3))
            assert other.take(stop=lambda: next(looks, None) is None) is None, "the holder lives"
            holder.send_signal(sign)
            if sign == signal.SIGKILL:
                holder.wait(10)
            else:
                assert other.take(stop=iter([False, True]).__next__) is None, "it may go on"
                aged(files, A, 150)
            taken = other.take()
            assert taken is not None
            assert taken.name == "00000.2"
    finally:
        holder.kill()
        holder.wait()


def test_a_worker_that_left_in_order_is_gone_at_once(files):
    with Heart(Heartbeats(files, FOLDER), A) as heart:
        assert Claims(heart.beats, A, ["00000"], set).take() is not None
    with Heart(Heartbeats(files, FOLDER), B) as heart:
        taken = Claims(heart.beats, B, ["00000"], set).take()
    assert taken is not None
    assert taken.attempt == 2


def test_units_that_nobody_has_come_before_those_of_the_dead(tmp_path):
    files = open_or_create(str(tmp_path)).files
    claims_of(files, A, ["00001"]).take()
    claims = claims_of(files, B)
    order = []
    for _ in range(3):
        claim = claims.take()
        assert claim is not None
        order.append(claim.name)
    assert order[2] == "00001.2"
    assert sorted(order[:2]) == ["00000.1", "00002.1"]


def test_two_heartbeats_are_kept_so_that_no_listing_misses_the_worker(tmp_path):
    files = open_or_create(str(tmp_path)).files
    heart = Heart(Heartbeats(files, FOLDER), A)
    for _ in range(5):
        heart.beat()
    assert files.names(f"{FOLDER}/workers") == [f"{A}.3", f"{A}.4"]


def test_a_wait_ends_when_others_have_finished_what_they_had(tmp_path):
    files, done = open_or_create(str(tmp_path)).files, set[str]()
    with Heart(Heartbeats(files, FOLDER), A) as first:
        assert Claims(first.beats, A, ["00000"], set).take() is not None
        with Heart(Heartbeats(files, FOLDER), B) as heart:
            waits: list[float] = []

            def sleep(seconds: float) -> None:
                waits.append(seconds)
                if len(waits) == 5:
                    done.add("00000")

            assert Claims(heart.beats, B, ["00000"], lambda: set(done), Pace(sleep=sleep)).take() is None
    assert len(waits) == 5


def test_a_wait_grows_with_the_time_waited_and_with_the_time_that_a_look_takes():
    slept: list[float] = []
    pace = Pace(sleep=slept.append, dice=random.Random(3))
    for waited_s, looked_s in [(0, 0.001), (0, 0.1), (60, 0.001), (3600, 0.001), (0, 30)]:
        pace.wait(waited_s, looked_s)
    for found, expected in zip(slept, [0.2, 2, 3, 10, 10], strict=True):
        assert 0.5 * expected <= found <= 1.5 * expected


def test_claims_cost_no_fsync_and_what_is_sealed_keeps_none(tmp_path, monkeypatch):
    files = open_or_create(str(tmp_path)).files
    files.create(f"{FOLDER}/claims/made", [b""])
    files.create(f"{FOLDER}/workers/made", [b""])
    synced = []
    monkeypatch.setattr("lightgen.storage.local.os.fsync", synced.append)
    with Heart(Heartbeats(files, FOLDER), A) as heart:
        assert Claims(heart.beats, A, ["00000"], set).take() is not None
    assert synced == []
    files.create(f"{FOLDER}/claims/durable", [b""])
    assert synced != [], "null control: others are synced"
    sweep(files, FOLDER)
    assert files.names(FOLDER) == []


def test_a_sweep_on_s3_is_complete(s3_uri):
    files = open_or_create(s3_uri).files
    claims = claims_of(files, A, [f"{unit:05d}" for unit in range(40)])
    assert all(claims.take() for _ in range(40))
    sweep(files, FOLDER)
    sweep(files, FOLDER)
    assert files.names(f"{FOLDER}/claims") == []


def test_locks_of_the_dead_stay_until_nobody_asks_any_more(tmp_path):
    """Whoever starts next would else not know of the death, and wait for two minutes."""
    locks = Heartbeats(open_or_create(str(tmp_path)).files, FOLDER).locks
    for worker, age_s in ((A, 60), (B, 7200)):
        (locks.folder / worker).touch()
        os.utime(locks.folder / worker, (time.time() - age_s, time.time() - age_s))
    lock = locks.hold(C)
    assert lock is not None
    assert sorted(path.name for path in locks.folder.iterdir()) == [A, C]
    assert locks.is_free(A)
    assert not locks.is_free(C)
    locks.release(C, lock)
