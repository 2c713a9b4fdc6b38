"""Workers on one version, killed at random moments and started again: nothing is lost, and it is the same version."""

import random
import time

import pytest

from lightgen.storage.store import open_or_create
from lightgen.work import Context
from tests.crash.invariants import violations
from tests.lightgen.engines.notes import NotesConfig, marked, notes
from tests.lightgen.engines.test_engines import await_begun, joined, leftovers, told

SHARDS, WORKERS = 12, 2


@pytest.mark.parametrize("rounds", [3, pytest.param(20, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_kills_cost_the_shards_in_work_and_nothing_else(tmp_path, rounds):
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice, root = random.Random(seed), tmp_path / "store"
    quiet = Context(open_or_create(str(tmp_path / "quiet")))
    open_or_create(str(root))
    for number in range(rounds):
        marks = tmp_path / f"marks-{number}"
        marks.mkdir()
        config = NotesConfig(name=f"n{number}", shards=SHARDS, seconds=0.15, marks=str(marks))
        workers = [start(root, config) for _ in range(WORKERS)]
        await_begun(marks, workers)
        time.sleep(dice.uniform(0, 0.6))
        victim = workers.pop(dice.randrange(WORKERS))
        victim.kill()
        victim.communicate()
        assert violations(root) == []
        workers.append(start(root, config))
        expected = notes(config.model_copy(update={"seconds": 0.0, "marks": ""}), quiet).fingerprint
        assert told(workers) == [expected] * WORKERS
        assert len(marked(marks, "begun")) <= SHARDS + 1, "at most the shard of the victim was made twice"
    assert violations(root) == []
    assert [path for path in leftovers(root) if "_scratch" not in path.parts] == []


def start(root, config):
    return joined("notes", root, settings=config.model_dump_json())
