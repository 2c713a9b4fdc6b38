"""Many workers on one version, in virtual time: claims keep them apart, and outlive the dead."""

import pytest

from tests.lightgen.engines.simulated import Crowd, with_claims, without_claims

SHARDS = 1000


@pytest.mark.parametrize(
    "workers", [16, pytest.param(64, marks=pytest.mark.long), pytest.param(256, marks=pytest.mark.long)]
)
def test_hardly_a_shard_is_made_twice(tmp_path, workers):
    assert Crowd(tmp_path, workers, SHARDS).run(with_claims) <= 0.02


@pytest.mark.parametrize(("workers", "least"), [(16, 0.05), pytest.param(64, 0.2, marks=pytest.mark.long)])
def test_null_control_without_claims_many_are(tmp_path, workers, least):
    assert Crowd(tmp_path, workers, SHARDS).run(without_claims) > least


def test_what_the_dead_had_is_made_by_others_and_nothing_else_twice(tmp_path):
    crowd = Crowd(tmp_path, workers=16, shards=200)
    deaths = [100.0 + 40.0 * turn for turn in range(12)]
    assert crowd.run(with_claims, deaths) <= 0.02
    assert set(crowd.made.values()) == {1}
    alone = Crowd(tmp_path, workers=4, shards=200)
    alone.run(with_claims)
    assert crowd.finished_at < alone.finished_at + 400, "the dead cost little more than their own work"
