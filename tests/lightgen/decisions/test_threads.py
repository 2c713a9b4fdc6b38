"""Decisions run on threads of their own and leave those of torch as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightgen.settings import cores, worker_environment

ROOT = Path(__file__).parents[3]
DECIDES = """
import torch
from lightgen.decisions.shingles import read_words
read_words(["two ducks on a pond"])
print(torch.get_num_threads())
"""


def _threads_of_torch(**given: str) -> int:
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_NUM_THREADS"} | given
    done = subprocess.run(
        [sys.executable, "-c", DECIDES], env=env, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_a_decision_leaves_torch_the_threads_that_the_user_set() -> None:
    assert _threads_of_torch(OMP_NUM_THREADS="1") == 1


@pytest.mark.skipif(cores() < 2, reason="one core")
def test_null_control_numba_sets_the_threads_of_torch() -> None:
    assert _threads_of_torch(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="2") == 2


def test_a_worker_gets_one_number_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = worker_environment("", 4)
    assert (made["OMP_NUM_THREADS"], made["NUMBA_NUM_THREADS"]) == ("1", "1")
