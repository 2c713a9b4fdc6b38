"""What makes a training due: captions that no finished student has seen, or a training that was not finished."""

import pyarrow as pa
import pytest

from lightgen.operations.retraining import due
from lightgen.recipe import load_recipe
from lightgen.storage.collect import collect, find_garbage
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from tests.worked_version import build

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("caption_id", pa.string())])
RECIPE = load_recipe("tests/recipes/tiny.yaml")
OTHER = load_recipe("tests/recipes/tiny.yaml", {"pretrain.1.loop.steps": 5})


@pytest.fixture
def store(tmp_path):
    return open_or_create(str(tmp_path / "store"))


def version(store, kind, stage, ids, parents, config=None, seed=7, name="a"):
    """A version of rows `ids`, for captions records of such texts; a name of its own where `name` is."""
    records = [f"{place:04}" for place in range(len(ids))] if kind == "captions" else ids
    table = pa.table({"id": records, "caption_id": ids}, schema=SCHEMA)
    plan = Stage(stage, kind, revision=1).plan(config or {"name": name}, seed, parents, 1)
    return build(store, plan, lambda _: ShardOutput(table, len(ids), SCHEMA), parents=parents)


def captions_of(store, words):
    return version(store, "captions", "source", words.split(), [], name=words)


def train(store, captions, recipe=RECIPE, resolutions=2):
    """Seal a student: `resolutions` trainings in a row on prompts of all `captions`."""
    ids = store.open(captions).table()["caption_id"].to_pylist()
    features = version(store, "features", "encode", ids, [version(store, "prompts", "select", ids, [captions])])
    starts = []
    for config in recipe.pretrain[:resolutions]:
        starts = [version(store, "checkpoint", "pretrain", ["w"], [features, *starts], config.content(), recipe.seed)]
    return starts[0]


def test_without_a_student_every_caption_is_new(store):
    found = due(store, RECIPE, captions_of(store, "cat dog"))
    assert (found.new, found.reason) == (2, "no student of recipe 'tiny' is finished yet")


def test_captions_that_a_student_has_seen_are_nothing_new(store):
    captions = captions_of(store, "cat dog")
    train(store, captions)
    assert due(store, RECIPE, captions).new == 0
    assert due(store, RECIPE, captions).reason.startswith("nothing new")


def test_captions_that_are_only_removed_are_nothing_new(store):
    train(store, captions_of(store, "cat dog cow"))
    assert due(store, RECIPE, captions_of(store, "cow cat")).new == 0


def test_added_captions_are_new_and_counted(store):
    train(store, captions_of(store, "cat dog cow"))
    found = due(store, RECIPE, captions_of(store, "cat hen owl"))
    assert found.new == 2
    assert "2 of the 3 captions" in found.reason


def test_what_two_students_have_seen_together_is_nothing_new(store):
    train(store, captions_of(store, "cat dog"))
    train(store, captions_of(store, "cow hen"))
    assert due(store, RECIPE, captions_of(store, "dog hen")).new == 0


def test_a_training_that_stopped_between_two_resolutions_goes_on(store):
    captions = captions_of(store, "cat dog")
    train(store, captions, resolutions=1)
    found = due(store, RECIPE, captions)
    assert found.new == 2
    assert "goes on: 1 of 2 resolutions" in found.reason
    train(store, captions)
    assert due(store, RECIPE, captions).new == 0


def test_an_unfinished_training_on_more_captions_does_not_count_as_seen(store):
    train(store, captions_of(store, "cat dog"))
    more = captions_of(store, "cat dog cow")
    train(store, more, resolutions=1)
    found = due(store, RECIPE, more)
    assert (found.new, "goes on" in found.reason) == (1, True)


def test_a_student_of_other_settings_is_no_student_of_this_recipe(store):
    captions = captions_of(store, "cat dog")
    train(store, captions, OTHER)
    assert due(store, RECIPE, captions).new == 2
    assert due(store, OTHER, captions).new == 0
    assert due(store, RECIPE.model_copy(update={"seed": 8}), captions).new == 2


def test_an_aligned_student_counts_through_the_one_it_started_from(store):
    captions, held_out = captions_of(store, "cat dog"), captions_of(store, "owl")
    student = train(store, captions)
    pairs = version(store, "pairs", "pair", ["p"], [held_out])
    version(store, "checkpoint", "align", ["w"], [pairs, student])
    assert due(store, RECIPE, captions).new == 0
    assert due(store, RECIPE, held_out).new == 1, "captions of preference pairs are not trained on"


def test_a_new_caption_that_changes_no_prompt_is_nothing_new_once_it_was_chosen_from(store):
    train(store, captions_of(store, "cat dog"))
    more = captions_of(store, "cat dog refused")
    assert due(store, RECIPE, more).new == 1
    version(store, "prompts", "select", ["cat", "dog"], [more])
    assert due(store, RECIPE, more).new == 0


def test_a_retired_student_has_seen_its_captions_until_it_is_collected(store):
    captions = captions_of(store, "cat dog")
    student = train(store, captions)
    store.retire(student)
    assert due(store, RECIPE, captions).new == 0, "the same recipe would give the same student"
    collect(store, find_garbage(store, grace_days=0), grace_days=0)
    assert due(store, RECIPE, captions).new == 2
