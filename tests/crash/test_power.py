"""Loss of power at any moment of a build: both fsyncs are needed, and with them nothing is lost."""

import random

import pytest

from lightgen.errors import LightgenError
from lightgen.storage import local
from lightgen.storage.store import open_or_create
from tests.crash.invariants import violations
from tests.crash.power import Disk, PowerLoss
from tests.crash.seeds import SEEDS, todays_seeds
from tests.worked_version import build, plan_of, rows

PLAN = plan_of(2)
ALL = 10**9


def run(root, disk, monkeypatch, acknowledged):
    """A build on `disk` until the power goes; every create that returned is remembered in `acknowledged`."""
    create = local.LocalFiles.create

    def remembers(self, key, chunks, sha256=None, durable=True):
        outcome = create(self, key, chunks, sha256, durable)
        if durable and not key.startswith("_"):
            acknowledged[key] = b"".join(chunks)
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(local, "os", disk)
        patch.setattr(local.LocalFiles, "create", remembers)
        try:
            return build(open_or_create(str(root)), PLAN, rows)
        except PowerLoss:
            return None


def story(tmp_path, seed, monkeypatch, total, **keeps):
    """One to three losses of power, some with a killed process before; returns what was broken after any of them."""
    rng, acknowledged = random.Random(seed), {}
    root = tmp_path / f"{seed}-0"
    root.mkdir()
    for turn in range(rng.randint(1, 3)):
        disk = Disk(root, rng.randrange(total // 4, total), rng, **keeps)
        if rng.random() < 0.3:
            run(
                root, disk, monkeypatch, {}
            )  # killed only: its pending writes are still in the cache, acknowledged or not
            disk.fail_at = disk.operations + rng.randrange(total)
        run(root, disk, monkeypatch, acknowledged)
        root = tmp_path / f"{seed}-{turn + 1}"
        disk.after_power_loss(root)
        lost = [key for key, data in acknowledged.items() if read(root / key) != data]
        if lost:
            return [f"{lost[0]} was acknowledged and is lost"]
        try:
            broken = violations(root)
        except ValueError as error:
            broken = [f"a document is torn: {error}"]
        if broken:
            return broken
    try:
        ref = run(root, Disk(root, ALL, rng), monkeypatch, {})
    except LightgenError as error:
        return [f"does not resume: {error}"]
    return [] if ref is not None and ref.fingerprint == EXPECTED[0] else ["resumes with other content"]


EXPECTED = []


@pytest.fixture(scope="module")
def total(tmp_path_factory):
    """Operations of one whole build."""
    root = tmp_path_factory.mktemp("whole") / "store"
    root.mkdir()
    disk = Disk(root, ALL, random.Random(0))
    with pytest.MonkeyPatch.context() as patch:
        EXPECTED[:] = [run(root, disk, patch, {}).fingerprint]
    return disk.operations


def read(path):
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize(
    "seeds", [todays_seeds(), pytest.param(range(SEEDS), marks=pytest.mark.long)], ids=["today", "all"]
)
def test_with_both_fsyncs_nothing_is_lost(tmp_path, monkeypatch, total, seeds):
    assert total > 50
    broken = {seed: found for seed in seeds if (found := story(tmp_path, seed, monkeypatch, total))}
    assert broken == {}, f"LIGHTGEN_SEED={next(iter(broken))} begins with the first of these"


@pytest.mark.parametrize("keeps", [{"keeps_files": False}, {"keeps_folders": False}])
def test_null_controls_are_caught(tmp_path, monkeypatch, total, keeps):
    seeds = range(20)
    broken = [seed for seed in seeds if story(tmp_path, seed, monkeypatch, total, **keeps)]
    assert len(broken) > 0.9 * len(seeds)
