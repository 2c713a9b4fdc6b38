"""A fork of the tests fails for its own work alone, and says when it does."""

import threading
from multiprocessing.context import ForkProcess

import pytest

from tests.forks import FORK, Forked


def fails_at_the_end():
    raise AssertionError("the threads that this waits for are not in a fork")


def fails_itself(_said):
    raise ValueError("its own work")


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """What a library like Prefect leaves behind in this process."""
    monkeypatch.setattr(threading, "_threading_atexits", [*threading._threading_atexits, fails_at_the_end])


def exit_code(kind, work):
    said = FORK.Queue()
    process = kind(target=work, args=(said,))
    process.start()
    heard = said.get(timeout=30) if work is say else None
    process.join(30)
    return heard, process.exitcode


def say(said):
    said.put("done")


def test_what_a_library_of_this_process_does_at_its_end_is_not_done_by_a_fork():
    assert exit_code(Forked, say) == ("done", 0)
    assert exit_code(ForkProcess, say) == ("done", 1), "the control"


def test_a_fork_whose_own_work_fails_says_so(capfd):
    assert exit_code(Forked, fails_itself) == (None, 1)
    assert "ValueError: its own work" in capfd.readouterr().err
