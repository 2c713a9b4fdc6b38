"""Flow `ablate` on a real server: every variant to its report, then the page of their curves."""

import json
from pathlib import Path

import pytest

from flows.ablate import ablate
from lightgen.storage.store import open_store
from tests.flows.conftest import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VARIANTS = """
name: drawn
title: Tokens an iteration, in small
seeds: [7]
set: {{pair: null, align: null, control: null, evaluate.models: {{}}, evaluate.untrained: false}}
variants:
  - {{name: two, set: {{evaluate.sample.iterations: 2}}}}
  - {{name: all, set: {{evaluate.sample.iterations: {last}}}}}
"""


def variants(folder: Path, last: object) -> str:
    path = folder / "variants.yaml"
    path.write_text(VARIANTS.format(last=last))
    return str(path)


def test_the_flow_makes_the_page_of_all_variants_and_finds_what_is_sealed(served, tmp_path):
    store, given = str(tmp_path / "store"), variants(tmp_path, 1)
    first, state = served.run_here(ablate, recipe=TINY, store=store, ablation=given)
    assert state.is_completed(), state.message
    made = state.result()
    assert list(made) == ["two, seed 7", "all, seed 7"]
    pages = tmp_path / "store" / "pages"
    found = json.loads((pages / "ablation-drawn.json").read_text())
    reports = {one["report"] for one in found["measured"]}
    assert reports == {ref.version for ref in made.values()}
    assert "Tokens an iteration, in small" in (pages / "ablation-drawn.html").read_text()
    assert served.get(f"/flow_runs/{first}")["name"] == "ablate · tiny"
    sealed = {kind: open_store(store).versions(kind) for kind in ("images", "checkpoint", "report")}
    assert [len(sealed[kind]) for kind in ("checkpoint", "report")] == [2, 2], "two sizes, trained once for both"
    _, again = served.run_here(ablate, recipe=TINY, store=store, ablation=given)
    assert again.result() == made
    assert {kind: open_store(store).versions(kind) for kind in sealed} == sealed


def test_a_variant_that_cannot_be_is_refused_before_the_first_step_of_any(served, tmp_path):
    store, given = tmp_path / "store", variants(tmp_path, "none")
    _, state = served.run_here(ablate, recipe=TINY, store=str(store), ablation=given)
    assert state.is_failed()
    assert "variant 'all'" in str(state.message)
    assert "iterations" in str(state.message)
    assert not store.exists()
