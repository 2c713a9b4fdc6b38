"""Whatever runs a stage, and with however many workers, the rows are the same, and no shard is made twice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightgen.engines.engine import open_engine
from lightgen.engines.gpu_slot import visible_gpus
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


def joined(module: str, *arguments: str) -> "subprocess.Popen[str]":
    """A process that calls the same stage for the same plan."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.lightgen.engines.{module}", *arguments],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def told(processes: "list[subprocess.Popen[str]]") -> list[str]:
    found = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert all(process.returncode == 0 for process in processes)
    return found


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
    assert told([joined("pictures", str(tmp_path)) for _ in range(4)]) == [expected] * 4
    assert leftovers(tmp_path) == []


def test_workers_that_joined_share_the_shards(tmp_path):
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    open_or_create(str(store))
    config = NotesConfig(shards=24, seconds=0.1, marks=str(marks))
    found = told([joined("notes", str(store), config.model_dump_json(), SERIAL) for _ in range(3)])
    assert len(set(found)) == 1
    assert marked(marks, "begun") == [f"{shard:05d}" for shard in range(24)]
    assert len(processes_of(marks)) == 3


@pytest.mark.parametrize("sort", ["decision", "job"])
def test_all_of_a_decision_or_a_job_is_made_by_one_worker_and_by_another_when_that_dies(tmp_path, sort):
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    open_or_create(str(store))
    config = NotesConfig(shards=3, seconds=0.6, marks=str(marks), sort=sort)
    workers = [joined("notes", str(store), config.model_dump_json(), SERIAL) for _ in range(3)]
    while not marked(marks, "begun"):
        time.sleep(0.02)
    (first,) = processes_of(marks)
    holder = next(worker for worker in workers if worker.pid == first)
    workers.remove(holder)
    holder.kill()
    holder.communicate()
    assert len(set(told(workers))) == 1
    assert marked(marks, "ended") == ["00000", "00001", "00002"]
    assert len(processes_of(marks)) == 2


def test_models_are_loaded_only_by_workers_that_have_a_claim(tmp_path):
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    open_or_create(str(store))
    config = NotesConfig(shards=1, seconds=1.0, marks=str(marks))
    told([joined("notes", str(store), config.model_dump_json(), SERIAL) for _ in range(2)])
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


def test_whoever_cannot_commit_lets_the_next_try(tmp_path):
    """Too many rejects: each worker says so, and none waits for the other."""
    context = Context(open_or_create(str(tmp_path)))
    work = work_of(NotesConfig(), context)
    for _ in range(2):
        with pytest.raises(TooManyRejects), open_engine(RunConfig()) as engine:
            refuse_at_commit(work, context, engine)
    assert done_shards(context.store, work.plan) == {0, 1, 2, 3}


def refuse_at_commit(work, context, engine):
    from dataclasses import replace

    from lightgen.engines import build

    given = replace(context, engine=engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "commit", too_many)
        build.build(work, given)


def too_many(*_):
    raise TooManyRejects("all of them")


def test_this_machine_shows_no_gpu_or_each_under_a_name_of_its_own():
    assert len(set(visible_gpus())) == len(visible_gpus())
