"""Whatever runs a stage, and with however many workers, the rows are the same, and no shard is made twice."""

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightgen.engines.provenance import provenance
from lightgen.errors import InputCorrupt, TooManyRejects
from lightgen.storage.receipts import done_shards
from lightgen.storage.store import open_or_create
from lightgen.work import Context, RunConfig
from tests.lightgen.engines.notes import NotesConfig, marked, notes, processes_of, work_of
from tests.lightgen.engines.pictures import pictures, prompts

ROOT = Path(__file__).parents[3]
SERIAL = RunConfig().model_dump_json()


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> str:
    """The fingerprint of the pictures, made by the serial engine."""
    context = Context(open_or_create(str(tmp_path_factory.mktemp("serial"))))
    return pictures(context, prompts(context)).fingerprint


def joined(module: str, store: Path, run: str = SERIAL, settings: str = "", count: int = 1) -> "subprocess.Popen[str]":
    """A process, or one with children, that calls the same stage for the same plan."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lightgen.engines.joiner", module, str(store), run, settings, str(count)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def told(processes: "list[subprocess.Popen[str]]") -> list[str]:
    found = [heard(process) for process in processes]
    assert all(process.returncode == 0 for process in processes), found
    return [stdout.strip() for stdout, _ in found]


def heard(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """All that it printed; one that does not end is killed, so that its last words are seen."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


def await_begun(marks: Path, processes: "list[subprocess.Popen[str]]", count: int = 1) -> None:
    """Until so many processes have begun a shard."""
    while len(processes_of(marks, "begun")) < count:
        over = [process for process in processes if process.poll() is not None]
        assert not over, [heard(process) for process in over]
        time.sleep(0.02)


def leftovers(root: Path) -> list[Path]:
    return [*root.glob("v/*/*/claims/*"), *root.glob("v/*/*/workers/*"), *root.glob("_scratch/workers/*/*")]


def test_four_processes_make_what_one_makes(tmp_path, expected):
    run = RunConfig(engine="processes", workers=4)
    store = open_or_create(str(tmp_path))
    found = prompts(Context(store))
    assert pictures(Context(store, run=run), found).fingerprint == expected
    assert leftovers(tmp_path) == []


def test_four_workers_that_joined_make_what_one_makes(tmp_path, expected):
    open_or_create(str(tmp_path))
    assert told([joined("pictures", tmp_path, count=4)])[0].split() == [expected] * 4
    assert leftovers(tmp_path) == []


def test_workers_that_joined_share_the_shards(tmp_path):
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    open_or_create(str(store))
    config = NotesConfig(shards=24, marks=str(marks), workers=3)
    found = told([joined("notes", store, settings=config.model_dump_json(), count=3)])[0].split()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert marked(marks, "begun") == [f"{shard:05d}" for shard in range(24)]
    assert len(processes_of(marks)) == 3


@pytest.mark.parametrize("sort", ["decision", "job"])
def test_all_of_a_decision_or_a_job_is_made_by_one_worker_and_by_another_when_that_dies(tmp_path, sort):
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    open_or_create(str(store))
    config = NotesConfig(shards=3, marks=str(marks), gate=str(tmp_path / "gate"), sort=sort)
    workers = [joined("notes", store, settings=config.model_dump_json()) for _ in range(3)]
    await_begun(marks, workers)
    (first,) = processes_of(marks)
    holder = next(worker for worker in workers if worker.pid == first)
    workers.remove(holder)
    holder.kill()
    holder.communicate()
    (tmp_path / "gate").touch()
    assert len(set(told(workers))) == 1
    assert marked(marks, "ended") == ["00000", "00001", "00002"]
    assert len(processes_of(marks)) == 2


def test_models_are_loaded_only_by_workers_that_have_a_claim(tmp_path):
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    open_or_create(str(store))
    config = NotesConfig(shards=1, seconds=1.0, marks=str(marks))
    told([joined("notes", store, settings=config.model_dump_json(), count=2)])
    assert len(marked(marks, "opened")) == 1


@pytest.mark.parametrize("interruption", [InputCorrupt, KeyboardInterrupt])
def test_an_error_frees_the_claim_at_once(tmp_path, monkeypatch, interruption):
    context = Context(open_or_create(str(tmp_path)))
    config = NotesConfig(shards=3)
    monkeypatch.setattr("tests.lightgen.engines.notes.mark", raising(interruption))
    with pytest.raises(interruption):
        notes(config, context)
    assert list(tmp_path.glob("v/*/*/claims/*"))
    assert list(tmp_path.glob("v/*/*/workers/*")) == []
    monkeypatch.undo()
    began = time.monotonic()
    notes(config, context)
    assert time.monotonic() - began < 10
    assert leftovers(tmp_path) == []


def raising(error: type[BaseException]):
    def mark(config, name, text=""):
        if name.startswith("begun"):
            raise error("now")

    return mark


def test_whoever_cannot_commit_lets_the_next_try(tmp_path, monkeypatch):
    """Too many rejects: each worker says so, and none waits for the other."""
    context = Context(open_or_create(str(tmp_path)))
    monkeypatch.setattr("lightgen.engines.build.commit", too_many)
    for _ in range(2):
        with pytest.raises(TooManyRejects):
            notes(NotesConfig(), context)
    assert done_shards(context.store, work_of(NotesConfig(), context).plan) == {0, 1, 2, 3}
    monkeypatch.undo()
    notes(NotesConfig(), context)
    assert leftovers(tmp_path) == []


def too_many(*_):
    raise TooManyRejects("all of them")


def test_a_job_that_meets_at_a_rendezvous_is_begun_by_as_many_machines_and_no_more(tmp_path):
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    open_or_create(str(store))
    config = NotesConfig(shards=1, marks=str(marks), workers=2, sort="job", machines=2)
    found = told([joined("notes", store, settings=config.model_dump_json(), count=3)])[0].split()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert len(processes_of(marks, "begun")) == 2


@pytest.mark.parametrize(("sort", "held"), [("map", ["GPU-a"]), ("job", ["GPU-a", "GPU-b"])])
def test_a_gpu_is_held_against_other_runs_while_a_stage_works_on_it(tmp_path, monkeypatch, sort, held):
    monkeypatch.setenv("LIGHTGEN_GPU_LOCKS", str(tmp_path / "gpus"))
    monkeypatch.setattr("lightgen.engines.devices.pick_device", lambda _: "cuda")
    monkeypatch.setattr("lightgen.engines.devices.visible_gpus", lambda: ["GPU-a", "GPU-b"])
    monkeypatch.setattr("lightgen.engines.loop.provenance", lambda _: provenance("cpu"))
    seen: list[list[str]] = []
    monkeypatch.setattr("tests.lightgen.engines.notes.mark", lambda *_: seen.append(taken(tmp_path / "gpus")))
    notes(NotesConfig(sort=sort, gpu=True), Context(open_or_create(str(tmp_path / "store"))))
    assert seen
    assert all(found == held for found in seen)
    assert taken(tmp_path / "gpus") == []


def taken(folder: Path) -> list[str]:
    """The GPUs that somebody holds."""
    found = []
    for name in ("GPU-a", "GPU-b"):
        with (folder / f"{name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(name)
    return found
