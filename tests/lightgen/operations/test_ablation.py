"""Ablations: what is wrong is said before the first step, what variants share is made once, seeds make intervals."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lightgen.config import problems_of
from lightgen.errors import ConfigError, RunsFailed, TrainingDiverged
from lightgen.operations.ablation import (
    FOLDER,
    Ablation,
    Figures,
    Measured,
    Run,
    Variant,
    forecast,
    interval,
    load_ablation,
    make_all,
    pool,
    recipes_of,
    step_keys,
)
from lightgen.pages.ablation import sentences
from lightgen.recipe import Recipe
from lightgen.storage.store import open_store
from schemas.ref import ArtifactRef
from tests.lightgen.cli.terminal import lightgen

TINY, SMALL = "tests/recipes/tiny.yaml", "tests/recipes/ablation.yaml"
SHIPPED = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "base")


def written(folder: Path, text: str) -> str:
    path = folder / "one.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(("name", "base"), [*((name, "ablations/base") for name in SHIPPED), ("decoding", "demo")])
def test_every_shipped_ablation_fits_its_recipe(name, base):
    ablation = load_ablation(name)
    runs = recipes_of(base, ablation)
    assert len(runs) == len(ablation.variants) * len(ablation.seeds)
    assert all(recipe.seed == run.seed for run, recipe in runs.items())
    stops = [one for recipe in runs.values() for one in problems_of(recipe) if one.weight == "stops"]
    assert stops == []


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ("[{name: a}, {name: b}, {name: a}]", "variant a stands there twice"),
        ("[]", "variants"),
        ("[{name: a, x: 1}, {name: b}]", "some variants have an x and some have none"),
        ("[{name: a, set: {seed: 3}}]", "give `seeds`"),
        ("[{name: a, sett: {}}]", "sett"),
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(tmp_path, variants, said):
    with pytest.raises(ConfigError, match=said) as error:
        load_ablation(written(tmp_path, f"name: x\ntitle: X\nvariants: {variants}\n"))
    assert "one.yaml" in str(error.value)


def test_an_ablation_that_is_not_there_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match="decoding"):
        load_ablation("decodding")


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ({"set": {"evaluate.sample.iteration": 2}}, r"variant 'a': .*did you mean 'iterations'"),
        ({"set": {"evaluate": None}}, "variant 'a': the recipe has no evaluate"),
        ({"model": "champion"}, "variant 'a': no model 'champion'; the report has teacher, untrained, pretrained, dpo"),
    ],
)
def test_a_variant_that_cannot_be_is_named(variant, said):
    ablation = Ablation(name="x", title="X", variants=(Variant(name="a", **variant),))
    with pytest.raises(ConfigError, match=said):
        recipes_of(TINY, ablation)


def test_what_would_stop_one_variant_stops_all_before_the_first_step(tmp_path):
    changed = Variant(name="b", set={"filter.rules": [{"column": "pixels.contrst", "least": 0.1}]})
    ablation = Ablation(name="x", title="X", seeds=(1,), variants=(Variant(name="a"), changed))
    with pytest.raises(ConfigError, match=r"variant 'b', seed 1: .*contrst"):
        forecast(recipes_of(TINY, ablation), str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_steps_that_variants_share_are_counted_once(tmp_path):
    ablation = load_ablation(SMALL)
    runs = recipes_of(TINY, ablation)
    two, every = (step_keys(runs[Run(name, 7)]) for name in ("two", "all"))
    differ = {name for name in two if two[name] != every[name]}
    drawn = {
        f"{stage}-test-{model}" for stage in ("generate", "score") for model in ("pretrained", "16px", "untrained")
    }
    assert differ == {*drawn, "evaluate"}
    assert not set(two.values()) & set(step_keys(runs[Run("two", 8)]).values()), "another seed shares nothing"
    left = forecast(runs, str(tmp_path / "store"))
    assert len(left) == 2 * (len(two) + len(differ))


def test_a_run_that_fails_keeps_no_other_from_its_report():
    def make(run: Run, loaded: Recipe) -> ArtifactRef:
        tried.append(run)
        if run == Run("two", 7):
            raise TrainingDiverged("10 steps in a row had no usable gradient")
        return report

    tried: list[Run] = []
    report = ArtifactRef(kind="report", uri="store", version=32 * "0", content=64 * "0", rows=1, fingerprint=64 * "0")
    runs = recipes_of(TINY, load_ablation(SMALL))
    with pytest.raises(RunsFailed, match=r"1 of 4 runs have no report.*variant 'two', seed 7: 10 steps.*leave out"):
        make_all(runs, make)
    assert sorted(tried, key=str) == sorted(runs, key=str)
    assert list(make_all({run: one for run, one in runs.items() if run != Run("two", 7)}, make)) == [
        run for run in runs if run != Run("two", 7)
    ]


def test_the_interval_is_students_over_seeds():
    values = [0.1, 0.4, 0.25]
    mean, low, high = interval(values)
    assert mean == pytest.approx(0.25)
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 2, np.mean(values), stats.sem(values)))
    assert interval([0.3]) == (0.3, None, None)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    chance = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        _, low, high = interval(chance.normal(0.5, 0.1, 3).tolist())
        assert low is not None
        assert high is not None
        held += low <= 0.5 <= high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def measured(variant: str, seed: int, mean: float) -> Measured:
    return Measured(
        variant=variant, curve="", x=None, seed=seed, task="overall", mean=mean, low=0, high=1, report="0" * 64
    )


def test_differences_are_paired_by_seed():
    ablation = Ablation(name="x", title="X", variants=(Variant(name="a"), Variant(name="b")))
    seeds = {0: 0.1, 1: 0.5, 2: 0.9}
    rows = [measured("a", seed, mean) for seed, mean in seeds.items()]
    rows += [measured("b", seed, mean + 0.05) for seed, mean in reversed(seeds.items())]
    base, other = pool(ablation, rows)
    assert (base.difference, base.difference_low, base.difference_high) == (0, 0, 0)
    assert other.difference_low == pytest.approx(0.05), "seeds differ widely, and every one gains the same"
    assert other.low is not None
    assert other.low < 0.1


@pytest.fixture
def ablate(tmp_path, monkeypatch, capsys):
    def call(*arguments):
        command = ("ablate", *arguments, "--store", str(tmp_path / "store"))
        return lightgen(*command, monkeypatch=monkeypatch, capsys=capsys)

    return call


@pytest.mark.slow
def test_a_tiny_ablation_from_captions_to_the_page_and_again_from_what_is_sealed(ablate, tmp_path):
    code, out, err = ablate(TINY, SMALL)
    assert code == 0, err
    assert out.startswith("4 runs; left: ")
    folder = tmp_path / "store" / "pages"
    found = json.loads((folder / "ablation-tiny.json").read_text())
    overall = [one for one in found["measured"] if one["task"] == "overall"]
    assert [(one["variant"], one["seed"]) for one in overall] == [("two", 7), ("two", 8), ("all", 7), ("all", 8)]
    assert len({one["report"] for one in overall}) == 4
    page = (folder / "ablation-tiny.html").read_text()
    assert "Tokens an iteration, in small" in page
    assert page.count("<figure") == 7
    assert re.search(r"<script|https?://(?!www\.w3\.org)", page) is None
    assert "<style>" in (folder / "ablation-tiny.svg").read_text()
    store = open_store(str(tmp_path / "store"))
    assert len(store.log("checkpoint")) >= 4
    trained = {entry.version for entry in store.log("checkpoint")}
    assert len(trained) == 4, "two sizes for each of two seeds: what variants draw from is trained once"
    code, again, _ = ablate(TINY, SMALL)
    assert code == 0
    assert again.startswith("4 runs; left: 0 steps")


def test_a_sentence_claims_a_difference_only_beyond_the_spread_of_seeds():
    ablation = Ablation(name="x", title="X", variants=(Variant(name="a"), Variant(name="b"), Variant(name="c")))
    rows = [measured("a", seed, 0.5) for seed in range(3)]
    rows += [measured("b", seed, 0.5 + gain) for seed, gain in enumerate((0.1, 0.11, 0.12))]
    rows += [measured("c", seed, 0.5 + gain) for seed, gain in enumerate((0.3, -0.1, 0.1))]
    sure, unsure = sentences(
        Figures(ablation=ablation, recipe="x", seconds=1, measured=rows, pooled=pool(ablation, rows))
    )
    assert "better beyond the spread of seeds" in sure
    assert "no difference that these seeds can show" in unsure
