"""A worker with another store, other code or another model is refused, by what differs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lightgen.config import Member
from lightgen.engines.board import Own
from lightgen.engines.join import join
from lightgen.errors import WorkerMismatch
from lightgen.progress import SILENT
from lightgen.storage.receipts import done_shards, write_plan
from lightgen.storage.store import open_or_create
from lightgen.storage.weights import Weights
from lightgen.work import Context, Needs, Work, revisions
from tests.lightgen.engines.notes import STAGE, NotesConfig, work_of


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(open_or_create(str(tmp_path / "store")))


def take_part(work: Work) -> None:
    join(Work.load(work.dump()), "cpu", Own(SILENT))


def test_work_survives_the_way_to_another_machine(context):
    work = work_of(NotesConfig(fails=(7,)), context)
    assert Work.load(work.dump()) == work
    assert "\n" not in work.dump()


def test_a_worker_with_the_same_store_and_code_takes_part(context):
    work = work_of(NotesConfig(), context)
    write_plan(context.store, work.plan)
    take_part(work)
    assert done_shards(context.store, work.plan) == {0, 1, 2, 3}


def test_another_store_at_the_same_address_is_refused_and_none_is_made(context, tmp_path):
    work = work_of(NotesConfig(), context)
    with pytest.raises(WorkerMismatch, match=f"the run has {work.store_id[:12]}"):
        take_part(replace(work, store=open_or_create(str(tmp_path / "other")).uri))
    with pytest.raises(WorkerMismatch, match="sees no store there"):
        take_part(replace(work, store=str(tmp_path / "nowhere")))
    assert not (tmp_path / "nowhere").exists()


def test_other_revisions_are_named_with_their_numbers(context):
    class Judge(Member):
        REVISION = 3

    name = f"{Judge.__module__}.{Judge.__qualname__}"
    work = work_of(NotesConfig(), context)
    assert work.revisions[name] == 3
    Judge.REVISION = 4
    with pytest.raises(WorkerMismatch, match=r"Judge is revision 4 here and 3 in the run"):
        take_part(work)
    Judge.REVISION = 3
    take_part(replace(work, revisions={**work.revisions, "a member that is not imported here": 1}))


def test_the_revisions_of_stages_are_among_them():
    import lightgen.stages.generate

    assert revisions()["stage generate"] == lightgen.stages.generate.STAGE.revision


def test_another_model_under_the_same_path_is_refused(context, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"first")
    config = Weights(model=str(model))
    plan = STAGE.plan(config, 0, [], 1)
    work = Work.of(plan, config, [], context, "tests.lightgen.engines.notes:open", Needs())
    (model / "model.safetensors").write_bytes(b"second")
    with pytest.raises(
        WorkerMismatch, match=r"weights\.sha256 is \"[0-9a-f]{64}\" here and \"[0-9a-f]{64}\" in the run"
    ):
        take_part(work)


def test_the_line_of_a_work_is_json_alone(context):
    found = json.loads(work_of(NotesConfig(), context).dump())
    assert found["settings"] == "tests.lightgen.engines.notes:NotesConfig"
    assert Path(found["store"]) == Path(context.store.uri)
