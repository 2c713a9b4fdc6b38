"""Sixteen processes create one key at once: one wins, and its bytes stay."""

import multiprocessing
from pathlib import Path

from lightgen.errors import StoreConflict
from lightgen.storage.local import LocalFiles

FORK = multiprocessing.get_context("fork")
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
    racers = [FORK.Process(target=racer, args=(str(tmp_path), i, rounds, gate, results)) for i in range(RACERS)]
    [process.start() for process in racers]
    outcomes = [results.get(timeout=60) for _ in range(rounds * RACERS)]
    [process.join() for process in racers]
    for turn in range(rounds):
        winners = [number for t, number, outcome in outcomes if t == turn and outcome == "created"]
        assert len(winners) == 1
        assert (tmp_path / "race" / str(turn)).read_bytes() == b"%d" % winners[0]
        assert sum(t == turn for t, _, _ in outcomes) == RACERS
