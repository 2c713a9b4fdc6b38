"""The last words in a terminal: what was measured, and apart from it what others printed."""

from pathlib import Path
from typing import Any

from flows.summary import summary
from lightgen.operations.run import run_recipe
from lightgen.recipe import Recipe
from lightgen.storage.store import Store, open_or_create
from schemas.ref import ArtifactRef

PAINTER = {"kind": "generator", "generator": {"kind": "scenes"}, "size_px": 32}


def judged(store: Store, **others: Any) -> ArtifactRef:
    recipe: dict[str, Any] = {
        "name": "compared",
        "test": {"source": {"corpora": [{"kind": "scenes", "split": "test", "count": 6}]}, "select": {}},
        "evaluate": {
            "detector": {"kind": "scenes"}, "samples_per_prompt": 1, "models": {"painter": PAINTER, **others},
        },
    }  # fmt: skip
    return run_recipe(Recipe.model_validate(recipe), store)["evaluate"]


def test_what_others_printed_stands_below_what_was_measured(tmp_path: Path) -> None:
    store = open_or_create(str(tmp_path / "store"))
    text = summary(judged(store, paper={"kind": "published", "tables": ["Table 1", "Table 3"]}))
    measured, *printed = text.split("Published, not run: ")
    assert [table[:7] for table in printed] == ["Table 1", "Table 3"]
    assert "painter" in measured
    assert "Chameleon" not in measured
    (line,) = [line for line in printed[1].splitlines() if line.startswith("Chameleon")]
    assert line.split() == ["Chameleon", "0.39", *6 * ["-"]]
    assert "Published" not in summary(judged(store))
