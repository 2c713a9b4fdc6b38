"""Likeness and diversity of models, from sealed SCORES with vectors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from lightgen.decisions.likeness import diversity, likeness
from lightgen.decisions.vendi import vendi_score
from lightgen.errors import SchemaMismatch
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from schemas.scores import VECTOR
from tests.lightgen.evaluation.test_distances import cmmd_formula, fid_formula
from tests.lightgen.sealed import image, images, scores


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def scored(store: Store, name: str, samples: Sequence[Sequence[np.ndarray | None]], shards: int = 3) -> Version:
    """SCORES with the vectors of each prompt's samples; None could not be looked at."""
    rows, answers = [], {}
    for prompt, vectors in enumerate(samples):
        for index, vector in enumerate(vectors):
            row = image(f"{name} {prompt} {index}", b"png", prompt_id=f"{prompt:032x}", index=index)
            rows.append(row)
            given = {"vector": None if vector is None else vector.astype("<f4").tobytes()}
            answers[row[0]["id"]] = given if vector is not None else given | {"unscored": "broken"}
    drawn = images(store, rows, shards)
    return store.open(scores(store, drawn, answers, pa.schema([VECTOR])))


def vectors(seed: int, prompts: int, spread: float, shift: float = 0.0) -> list[list[np.ndarray]]:
    random = np.random.default_rng(seed)
    places = random.normal(size=(prompts, 6)) + shift
    return [[place + spread * random.normal(size=6) for _ in range(3)] for place in places]


def test_figures_are_those_of_the_formulas_over_all_vectors_together(store: Store) -> None:
    ours, theirs = vectors(0, 20, 0.3), vectors(1, 25, 0.3, shift=1)
    found = likeness("net", "b", {"a": scored(store, "a", ours), "b": scored(store, "b", theirs)})
    x, y = (np.concatenate(one).astype(np.float32) for one in (ours, theirs))
    a, b = found.models
    assert a.frechet == pytest.approx(fid_formula(x, y), rel=1e-5)
    assert a.mmd == pytest.approx(cmmd_formula(x, y), rel=1e-5)
    assert (b.frechet, b.mmd) == (None, None), "the reference is not compared with itself"
    assert (found.network, found.features, found.reference_images, a.images) == ("net", 6, 75, 60)


def test_a_model_like_the_reference_is_no_farther_than_its_halves_and_another_is(store: Store) -> None:
    """The null control, beside the value it belongs to."""
    same, other, ground = vectors(2, 200, 0.3), vectors(3, 200, 0.3, shift=1), vectors(4, 200, 0.3)
    models = {"same": scored(store, "same", same), "other": scored(store, "other", other)}
    found = likeness("net", "images@photos", models, scored(store, "ground", ground))
    near, far = found.models
    assert found.halves.images > 200
    assert found.halves.frechet is not None
    assert near.frechet is not None
    assert far.frechet is not None
    assert near.frechet < 1.5 * found.halves.frechet < far.frechet / 10
    assert near.mmd is not None and found.halves.mmd is not None and far.mmd is not None  # noqa: PT018
    assert near.mmd < 6 * found.halves.mmd < far.mmd / 10


def test_diversity_is_that_of_samples_of_one_prompt_with_an_interval_over_prompts(store: Store) -> None:
    given = vectors(5, 12, 0.5)
    distance, vendi = diversity(scored(store, "a", given, 1))
    assert distance is not None
    assert vendi is not None
    by_prompt, effective = [], []
    for samples in given:
        x = np.stack(samples).astype(np.float32).astype(float)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        by_prompt.append(np.mean([1 - x[i] @ x[j] for i, j in ((0, 1), (0, 2), (1, 2))]))
        effective.append(vendi_score(x))
    assert distance.mean == pytest.approx(np.mean(by_prompt))
    assert vendi.mean == pytest.approx(np.mean(effective))
    low, high = stats.t.interval(0.95, 11, np.mean(by_prompt), stats.sem(by_prompt))
    assert (distance.low, distance.high) == pytest.approx((low, high))


def test_equal_samples_have_no_diversity_and_unlike_ones_count_as_many(store: Store) -> None:
    one, corners = np.eye(3)[0], list(np.eye(3))
    flat = diversity(scored(store, "flat", [[one] * 3] * 4, 1))
    assert [round(each.mean, 9) for each in flat if each] == [0.0, 1.0]
    full = diversity(scored(store, "full", [corners] * 4, 1))
    assert [round(each.mean, 9) for each in full if each] == [1.0, 3.0]
    assert diversity(scored(store, "single", [[one]] * 4)) == (None, None)


def test_what_could_not_be_looked_at_is_left_out_and_the_number_says_so(store: Store) -> None:
    given: list[list[np.ndarray | None]] = [[*one] for one in vectors(6, 10, 0.3)]
    given[0][0] = None
    found = likeness("net", "b", {"a": scored(store, "a", given), "b": scored(store, "b", vectors(7, 10, 0.3))})
    assert [model.images for model in found.models] == [29, 30]


def test_vectors_of_another_network_are_refused(store: Store) -> None:
    short = [[one[:4] for one in samples] for samples in vectors(8, 10, 0.3)]
    with pytest.raises(SchemaMismatch, match="another length"):
        likeness("net", "b", {"a": scored(store, "a", short), "b": scored(store, "b", vectors(9, 10, 0.3))})
