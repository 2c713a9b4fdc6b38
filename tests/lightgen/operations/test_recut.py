"""Other thresholds over scores that are there: both decisions side by side, and nothing made again."""

from typing import Any

import numpy as np
import pytest

from lightgen.errors import ConfigError, NotMade
from lightgen.operations.recut import recut, seal
from lightgen.operations.run import run_recipe
from lightgen.recipe import Recipe, load_recipe
from lightgen.storage.pixels import encode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.verify import verify
from schemas.ref import ArtifactRef

TINY = "tests/recipes/tiny.yaml"
LIVELY = {"filter.rules": [{"column": "pixels.contrast", "least": 0.25, "reason": "dull"}]}


def recipe(**changes: Any) -> Recipe:
    return load_recipe(TINY, changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, ArtifactRef]]:
    store = open_or_create(str(tmp_path_factory.mktemp("recut") / "store"))
    return store, run_recipe(recipe(), store, ["filter"])


def test_other_rules_are_laid_beside_the_old_ones_without_a_look_at_an_image(made, monkeypatch) -> None:
    store, before = made
    monkeypatch.setattr("lightgen.storage.version.Version.samples", lambda *_: pytest.fail("a tar was read"))
    monkeypatch.setattr("lightgen.storage.version.Version.members_of", lambda *_: pytest.fail("a tar was read"))
    cut = recut(recipe(), recipe(**LIVELY), store)
    assert cut.images == before["generate"]
    assert [one.step for one in cut.before] == ["too_small", "blank", "duplicate_exact", "duplicate_perceptual"]
    assert [one.step for one in cut.after] == ["dull", "duplicate_exact", "duplicate_perceptual"]
    assert cut.before[-1].after == before["filter"].rows
    assert cut.after[0].after < cut.before[0].before == cut.images.rows


def test_the_new_selection_is_sealed_as_a_run_of_the_recipe_would(made) -> None:
    store, before = made
    other = recipe(**LIVELY)
    cut = recut(recipe(), other, store)
    ref = seal(cut, other, store)
    assert ref.rows == cut.after[-1].after
    assert store.open("kept@train").ref == ref
    assert run_recipe(other, store, ["filter"])["filter"] == ref
    assert store.open(ref).parents[0] == before["generate"]
    assert verify(store, ref) == []


def test_what_is_not_made_yet_is_not_made_here(made) -> None:
    store, _ = made
    with pytest.raises(NotMade, match="make it with `lightgen run`"):
        recut(recipe(), recipe(**{"generate.size_px": 48}), store)
    assert len(store.log("images")) == 1


def test_a_recipe_that_uses_a_selection_as_it_is_has_nothing_to_cut(made) -> None:
    store, _ = made
    used = recipe(**{"filter": {"use": "kept@train"}})
    with pytest.raises(ConfigError, match="no filter with rules of its own"):
        recut(used, used, store)


def test_pictures_that_exist_are_cut_again_like_those_that_were_drawn(tmp_path) -> None:
    for number in range(4):
        pixels = np.full((80, 80, 3), 128, np.uint8)
        pixels[:, : 10 * number] = 0
        (tmp_path / f"{number}.png").write_bytes(encode_image(pixels, "png"))
        (tmp_path / f"{number}.txt").write_text(f"picture {number}", encoding="utf-8")
    sets = [{"kind": "folder", "path": str(tmp_path), "source": "ours"}]
    before, after = (
        Recipe.model_validate({"name": "ours", "pictures": {"sets": sets}, "filter": {"rules": [rule]}})
        for rule in ({"column": "pixels.contrast", "least": least, "reason": "dull"} for least in (0.0, 0.1))
    )
    store = open_or_create(str(tmp_path / "store"))
    made = run_recipe(before, store)
    cut = recut(before, after, store)
    assert cut.images == made["pictures"]
    assert (cut.before[0].after, cut.after[0].after) == (4, 3)
