"""Ranks, microbatches and workers, however many, read the rows of the step, and of the step alone."""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import psutil
import pytest
import torch

from lightgen.errors import ConfigError, StoreCorrupt, TrainingFailed
from lightgen.training import workers
from lightgen.training.data import rows_of_step
from lightgen.training.loader import BatchSplit, Loader
from lightgen.training.ranks import World
from tests.forks import Forked
from tests.lightgen.training.feature_files import read_features, write_shards
from tests.lightgen.training.test_features_on_disk import assert_same
from tests.lightgen.training.tiny_run import tiny_features, tiny_pairs
from tests.processes import ended

BATCH = 8


@pytest.fixture
def stored(tmp_path):
    return write_shards(tmp_path)[0]


@pytest.fixture
def running():
    """A function that gives the processes started since; ranks of other tests may be there already."""
    before = active_children()
    return lambda: [child for child in active_children() if child not in before]


def rows_of(features):
    return partial(rows_of_step, 3, rows=len(features), batch_size=BATCH)


def expected(features, split, step):
    return Loader(features, rows_of(features), split).at(step)


def assert_equal_steps(loader, steps):
    for step in steps:
        batches = loader.at(step)
        wanted = expected(loader.features, loader.split, step)
        assert len(batches) == len(wanted) == loader.split.accumulate
        for found, want in zip(batches, wanted, strict=True):
            assert found.text.dtype == want.text.dtype
            assert_same(found, replace(want, text=want.text.float()))


def read(loader, steps):
    for step in steps:
        loader.at(step)


def kill_and_read(worker, loader):
    os.kill(worker.pid, signal.SIGKILL)
    read(loader, range(1, 20))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_workers_read_what_this_process_reads(stored, running, count, accumulate):
    """More steps than slots of the ring, over more than an epoch."""
    with Loader(stored, rows_of(stored), BatchSplit(World(0, 2), accumulate), workers=count) as loader:
        assert_equal_steps(loader, range(12))
        assert_equal_steps(loader, [40, 41, 42])  # on with other data
        assert_equal_steps(loader, [4, 5])  # and back
        assert len(running()) == count
    assert not running()


@pytest.mark.parametrize("made", [tiny_features, tiny_pairs])
def test_features_in_memory_are_handed_over_too(made):
    with Loader(made(), rows_of(made()), workers=2) as loader:
        assert_equal_steps(loader, range(6))


def test_a_new_loader_goes_on_in_the_middle(stored):
    with Loader(stored, rows_of(stored), workers=2) as loader:
        assert_equal_steps(loader, range(5, 9))


def fail_at_the_end():
    raise AssertionError("the threads that this waits for are not in a fork")


def test_what_a_library_of_this_process_does_at_its_end_is_not_done_by_workers(stored, running, monkeypatch):
    """Prefect's log is such a library: once a flow had run, every worker ended with status 1."""
    registered = [*threading._threading_atexits, fail_at_the_end]
    monkeypatch.setattr(threading, "_threading_atexits", registered)
    with Loader(stored, rows_of(stored), workers=2) as loader:
        assert_equal_steps(loader, range(3))
        started = running()
    assert [one.exitcode for one in started] == [0, 0]


@pytest.mark.parametrize("shares", [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_ranks_and_microbatches_split_one_global_batch(tmp_path, shares):
    stored, *tables = write_shards(tmp_path)
    memory = read_features(*tables)
    size, accumulate = shares
    for step in (0, 3):
        loaders = [Loader(stored, rows_of(stored), BatchSplit(World(rank, size), accumulate)) for rank in range(size)]
        batches = [batch for loader in loaders for batch in loader.at(step)]
        whole = memory.batch(*rows_of(memory)(step))
        assert torch.equal(torch.cat([batch.ids for batch in batches]), whole.ids)
        assert torch.equal(torch.cat([batch.mean for batch in batches]), whole.mean)
        assert torch.equal(torch.cat([batch.text for batch in batches]).float(), whole.text)


def test_a_batch_stays_until_the_next_call_and_after_the_end(stored):
    loader = Loader(stored, rows_of(stored), workers=2)
    (first,) = loader.at(0)
    time.sleep(0.3)  # the workers read on until they must wait
    want = expected(stored, BatchSplit(), 0)[0]
    assert torch.equal(first.mean, want.mean)
    loader.close()
    loader.close()
    assert torch.equal(first.text, want.text)
    assert_equal_steps(loader, [1])
    loader.close()


def test_torchs_own_generator_is_left_alone(stored):
    before = torch.get_rng_state()
    with Loader(stored, rows_of(stored), workers=1) as loader:
        loader.at(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_killed_worker_is_an_error_and_the_next_call_starts_new_ones(stored, running):
    with Loader(stored, rows_of(stored), workers=2) as loader:
        loader.at(0)
        # Where torch is told by a signal before `at` looks, it raises the RuntimeError itself.
        with pytest.raises((TrainingFailed, RuntimeError), match="DataLoader worker"):
            kill_and_read(running()[0], loader)
        assert_equal_steps(loader, [7, 8])


def test_what_a_worker_cannot_read_is_said_by_name(stored):
    with Loader(stored, rows_of(stored), workers=1) as loader:
        loader.at(0)
        for shard in stored.shards:
            Path(shard.mean.path).write_bytes(b"cut")
        with pytest.raises(StoreCorrupt, match="the file was changed"):
            read(loader, range(1, 9))


def test_a_ring_that_does_not_fit_is_refused(stored, monkeypatch):
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda _: workers.shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(ConfigError, match="shm"):
        Loader(stored, rows_of(stored), workers=1).at(0)


@pytest.mark.slow
def test_workers_of_a_process_with_a_gpu_are_not_forked_from_it(stored, running, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with Loader(stored, rows_of(stored), workers=1) as loader:
        assert_equal_steps(loader, range(3))
        assert type(running()[0]).__name__ == "ForkServerProcess"


def _read_and_die(parent):
    loader = Loader(tiny_features(), rows_of(tiny_features()), workers=2)
    loader.at(0)
    parent.send([child.pid for child in active_children()])
    parent.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def test_workers_end_with_their_process():
    here, there = multiprocessing.Pipe()
    reader = Forked(target=_read_and_die, args=(there,))
    reader.start()
    there.close()  # so that a reader that fails is the end of what can be received
    workers = [psutil.Process(pid) for pid in here.recv()]
    here.send("seen")
    reader.join()
    assert reader.exitcode == -signal.SIGKILL
    assert len(workers) == 2
    end = time.monotonic() + 60
    while not all(map(ended, workers)):
        assert time.monotonic() < end, "workers live on"
        time.sleep(0.1)


def test_a_batch_that_the_microbatches_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match="multiple"):
        BatchSplit(World(0, 3)).check(BATCH)
    assert [index for rank in range(2) for index in BatchSplit(World(rank, 2), 3).local_indices()] == list(range(6))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_reads_pinned_memory_while_workers_go_on(stored):
    device = torch.device("cuda")
    with Loader(stored, rows_of(stored), workers=2, pin=True) as loader:
        copies = []
        for step in range(20):
            torch.cuda._sleep(20_000_000)  # the GPU is behind, so copies wait
            (batch,) = loader.at(step)
            assert batch.mean.is_pinned()
            copies.append(batch.to(device))
        for step, copy in enumerate(copies):
            want = expected(stored, BatchSplit(), step)[0]
            assert torch.equal(copy.mean.cpu(), want.mean)
            assert torch.equal(copy.text.cpu(), want.text)
