"""Decisions run on threads of their own and leave those of torch as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightgen.engines.devices import devices
from lightgen.settings import cores, worker_environment
from lightgen.work import Needs, RunConfig

ROOT = Path(__file__).parents[3]
LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMBA")
DECIDES = """
import torch
from lightgen.decisions.shingles import read_words
read_words(["two ducks on a pond"])
print(torch.get_num_threads())
"""


def _threads_of_torch(**given: str) -> int:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")} | given
    done = subprocess.run(
        [sys.executable, "-c", DECIDES], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.parametrize("given", [{"OMP": "1"}, {"MKL": "1"}, {"OMP": "2", "MKL": "1"}, {"OMP": "1,2"}])
def test_a_decision_leaves_torch_the_threads_that_the_user_set(given: dict[str, str]) -> None:
    assert _threads_of_torch(**{f"{library}_NUM_THREADS": count for library, count in given.items()}) == 1


@pytest.mark.skipif(cores() < 2, reason="one core")
def test_null_control_numba_sets_the_threads_of_torch() -> None:
    assert _threads_of_torch(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="2") == 2


def test_a_worker_gets_one_number_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    _nothing_set(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = worker_environment("", 4)
    assert (made["OMP_NUM_THREADS"], made["NUMBA_NUM_THREADS"]) == ("1", "1")


def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in LIBRARIES:
        monkeypatch.delenv(f"{library}_NUM_THREADS", raising=False)


STARTED = """
import numba, pyarrow, torch
import lightgen
print(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS, pyarrow.cpu_count())
"""


@pytest.mark.parametrize(("workers", "threads"), [(1, cores()), (cores(), 1)])
def test_workers_together_have_as_many_threads_as_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, workers: int, threads: int
) -> None:
    _nothing_set(monkeypatch)
    given = devices(RunConfig(engine="processes", workers=workers, device="cpu"), Needs(unit="rows", total=1))
    assert [one.threads for one in given] == [threads] * workers
    done = subprocess.run(
        [sys.executable, "-c", STARTED], env=worker_environment("", threads), cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(threads)] * 3
