"""What runs make versions for, and which version a pointer means."""

import pytest

from lightgen.errors import RefNotFound
from lightgen.storage.store import UNAUDITED, open_or_create
from tests.worked_version import build, plan_of, rows


@pytest.fixture
def store(tmp_path):
    return open_or_create(str(tmp_path))


def pairs(store, role, **config):
    return build(store, plan_of(kind="pairs", **config), rows, role=role)


def test_latest_passes_over_what_nobody_vouches_for(store):
    vouched = pairs(store, "held-out", name="vouched")
    pairs(store, UNAUDITED, name="newer")
    assert store.open("pairs").ref == vouched
    assert store.open(f"pairs@{UNAUDITED}").ref != vouched


def test_where_all_are_unaudited_there_is_no_latest(store):
    pairs(store, UNAUDITED)
    with pytest.raises(RefNotFound, match=f"pairs@{UNAUDITED}"):
        store.open("pairs@latest")


def test_what_is_published_again_for_a_role_is_the_latest(store):
    pairs(store, "held-out", name="before")
    ref = pairs(store, UNAUDITED, name="newer")
    store.publish(ref, "held-out")
    store.publish(ref, "held-out")
    assert store.open("pairs").ref == store.open("pairs@held-out").ref == ref
    assert [entry.role for entry in store.log("pairs")] == ["held-out", UNAUDITED, "held-out"]


def test_a_run_that_is_repeated_takes_nothing_back(store):
    ref = pairs(store, UNAUDITED)
    store.publish(ref, "held-out")
    assert pairs(store, UNAUDITED) == ref == store.open("pairs").ref
