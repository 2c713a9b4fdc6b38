"""Sixteen processes create one key, or one store, at once: one wins, its bytes stay, and nobody fails."""

import os
import shutil
from pathlib import Path

import pytest

from lightgen.errors import StoreConflict, StoreError
from lightgen.storage import local
from lightgen.storage.local import LocalFiles
from lightgen.storage.store import open_or_create, open_store
from tests.forks import FORK, Forked

RACERS = 16


def racer(root, number, rounds, gate, results):
    files = LocalFiles(Path(root))
    for turn in range(rounds):
        gate.wait()
        try:
            results.put((turn, number, files.create(f"race/{turn}", [b"%d" % number])))
        except StoreConflict:
            results.put((turn, number, "conflict"))


def test_one_winner(tmp_path):
    rounds, gate, results = 10, FORK.Barrier(RACERS), FORK.Queue()
    racers = [Forked(target=racer, args=(str(tmp_path), i, rounds, gate, results)) for i in range(RACERS)]
    [process.start() for process in racers]
    outcomes = [results.get(timeout=60) for _ in range(rounds * RACERS)]
    [process.join() for process in racers]
    for turn in range(rounds):
        winners = [number for t, number, outcome in outcomes if t == turn and outcome == "created"]
        assert len(winners) == 1
        assert (tmp_path / "race" / str(turn)).read_bytes() == b"%d" % winners[0]
        assert sum(t == turn for t, _, _ in outcomes) == RACERS


def opener(root, rounds, gate, results):
    for turn in range(rounds):
        gate.wait()
        try:
            results.put((turn, open_or_create(f"{root}/{turn}/store").mark.store_id))
        except (OSError, StoreError) as error:
            results.put((turn, repr(error)))


def test_many_first_opens_of_a_new_store_all_succeed_and_agree(tmp_path):
    rounds, gate, results = 24, FORK.Barrier(RACERS), FORK.Queue()
    racers = [Forked(target=opener, args=(str(tmp_path), rounds, gate, results)) for _ in range(RACERS)]
    [process.start() for process in racers]
    answers = [results.get(timeout=60) for _ in range(RACERS * rounds)]
    [process.join() for process in racers]
    marks = {turn: open_store(str(tmp_path / str(turn) / "store")).mark.store_id for turn in range(rounds)}
    assert [answer for answer in answers if answer[1] != marks[answer[0]]] == []


@pytest.mark.parametrize("removed", ["race", "_tmp"])
@pytest.mark.parametrize("function", ["link", "fsync"])
def test_a_folder_that_another_process_removes_is_made_again(tmp_path, monkeypatch, removed, function):
    """As a probe or a collection does, which removes the folder that it emptied, at the worst moments."""
    files = LocalFiles(tmp_path)
    files.create("race/first", [b"1"])
    monkeypatch.setattr(local, "os", Remover(tmp_path / removed, function))
    assert files.create("race/second", [b"2"]) in ("created", "same")
    assert (tmp_path / "race" / "second").read_bytes() == b"2"


class Remover:
    """`os` of which one function removes a folder when it is called first."""

    def __init__(self, folder, function):
        self.folder, self.function = folder, function

    def __getattr__(self, name):
        if name == self.function and self.folder.exists() and self.folder not in self.__dict__.get("gone", ()):
            self.gone = (self.folder,)
            shutil.rmtree(self.folder)
        return getattr(os, name)
