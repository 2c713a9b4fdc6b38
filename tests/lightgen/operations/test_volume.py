"""`lightgen volume`: costs are those of `plan`, captions those of the store or the corpora, and nothing is made."""

import json
from pathlib import Path

import pytest

from lightgen.bench.captions import real_shaped
from lightgen.decisions.concepts import all_concepts
from lightgen.errors import ConfigError, InputCorrupt, RefNotFound
from lightgen.operations.machines import described
from lightgen.operations.preflight import preflight
from lightgen.operations.run import run_recipe
from lightgen.operations.volume import Worth, round_step, worth
from lightgen.pages.volume import facts, grounds, rows, sentences, verdict, volume_page
from lightgen.recipe import Recipe, load_recipe
from lightgen.storage.store import open_or_create
from tests.lightgen.cli.terminal import lightgen

TINY = str(Path(__file__).parents[3] / "tests" / "recipes" / "tiny.yaml")
EIGHT = described("8xH100")
RECIPE = """
name: shaped
source: {corpora: [{kind: jsonl, path: captions.jsonl, field: caption, source: shaped}]}
select: {count: 2000, choice: {kind: balance}}
generate: {generator: {kind: flux, model: black-forest-labs/FLUX.1-dev}, size_px: 512, samples_per_prompt: 2}
filter: {}
texts: {encoder: {kind: t5, model: google/flan-t5-xxl}}
encode: [{size_px: 512, vae: {kind: diffusers, model: stabilityai/stable-diffusion-3.5-large, subfolder: vae}}]
pretrain: [{student: lightgen-0.7b, batch_size: 64, loop: {steps: 100, optimizer: {lr: 0.001}}}]
"""
CAPTIONS = [str(one) for one in real_shaped(6000, seed=3)]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    write(CAPTIONS)


def write(captions: list[str]) -> None:
    Path("captions.jsonl").write_text("".join(json.dumps({"caption": one}) + "\n" for one in captions))


def recipe(**changes: object) -> Recipe:
    return load_recipe("recipe.yaml", {key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture
def found(_here: None) -> Worth:
    return worth(recipe(), "store", step=1000, machine=EIGHT, usd_per_hour=24)


def test_costs_are_those_that_plan_tells_for_such_a_count(found: Worth) -> None:
    for place, count in ((0, 1000), (3, 4000)):
        lines = preflight(recipe(select__count=count), "store", machine=EIGHT).lines
        seconds = {line.step.name: line.device_seconds or 0.0 for line in lines}
        cost = found.costs[place]
        assert cost.images == 2 * count
        assert 3600 * cost.gpu_hours == pytest.approx(sum(seconds.values()))
        assert cost.bytes == pytest.approx(sum(line.bytes or 0.0 for line in lines))
        assert cost.usd == pytest.approx(24 / 3600 * sum(line.seconds or 0.0 for line in lines))
    one, two = ({line.step.name: line for line in preflight(recipe(select__count=count), "store", machine=EIGHT).lines}
                for count in (1000, 2000))  # fmt: skip
    more = sum((two[name].device_seconds or 0.0) - (one[name].device_seconds or 0.0) for name in two)
    assert 3600 * found.more[1].gpu_hours == pytest.approx(more)
    assert two["pretrain-512px"].device_seconds == one["pretrain-512px"].device_seconds


def test_training_that_costs_the_same_at_any_volume_is_in_no_step(found: Worth) -> None:
    assert found.more[0].gpu_hours == pytest.approx(found.more[1].gpu_hours)
    assert found.costs[0].gpu_hours > found.more[0].gpu_hours
    assert found.without == ("score-pixels",)
    assert found.by == ("formula",)


def test_what_the_store_measured_replaces_the_formula() -> None:
    small = load_recipe(TINY, {"source.corpora": [{"kind": "scenes", "split": "train", "count": 480}]})
    before = worth(small, "store", machine=EIGHT)
    assert {"generate", "score-pixels"} <= set(before.without)
    run_recipe(small, open_or_create("store"), ["generate"])
    after = worth(small, "store", machine=EIGHT)
    assert "generate" not in after.without
    assert after.by[0].startswith("measured on")
    assert after.more[1].processor_hours > 0
    assert after.captions.place.startswith("captions@")


def test_a_sealed_version_gives_the_captions_of_the_corpora_and_may_be_used_by_name() -> None:
    from_corpora = worth(recipe(), "store", machine=EIGHT)
    run_recipe(recipe(), open_or_create("store"), ["source"])
    sealed = worth(recipe(), "store", machine=EIGHT)
    assert (from_corpora.captions.place, sealed.captions.place[:9]) == ("captions.jsonl", "captions@")
    assert sealed.captions.held == pytest.approx(from_corpora.captions.held, rel=0.01)
    assert sealed.growth.coverage.mean == pytest.approx(from_corpora.growth.coverage.mean, abs=0.01)
    Path("captions.jsonl").unlink()
    used = worth(recipe(source={"use": sealed.captions.place}), "store", machine=EIGHT)
    assert used.growth.coverage.mean.tolist() == sealed.growth.coverage.mean.tolist()


def test_a_sample_foretells_what_the_whole_shows() -> None:
    whole = worth(recipe(), "store", step=1000, machine=EIGHT)
    sampled = worth(recipe(), "store", sample=2000, upto=5000, step=1000, machine=EIGHT)
    assert (whole.captions.exact, sampled.captions.exact) == (True, False)
    assert sampled.captions.held == pytest.approx(whole.captions.held, rel=0.07)
    for step in (1000, 3000, 5000):
        true, at = whole.growth.coverage.mean[whole.growth.at(step)], sampled.growth.at(step)
        assert sampled.growth.coverage.low[at] <= true <= sampled.growth.coverage.high[at]
    again = worth(recipe(), "store", sample=2000, upto=5000, step=1000, machine=EIGHT)
    assert again.growth.coverage.mean.tolist() == sampled.growth.coverage.mean.tolist()
    other = worth(recipe(seed=1), "store", sample=2000, upto=5000, step=1000, machine=EIGHT)
    assert other.growth.coverage.mean.tolist() != sampled.growth.coverage.mean.tolist()


def test_repeats_add_nothing() -> None:
    once = worth(recipe(), "store", machine=EIGHT)
    write(CAPTIONS * 3)
    thrice = worth(recipe(), "store", machine=EIGHT)
    assert thrice.captions.held == once.captions.held
    assert thrice.growth.coverage.mean.tolist() == once.growth.coverage.mean.tolist()


def test_captions_that_source_refuses_are_in_no_sample() -> None:
    write(CAPTIONS + [f"{one} " + "word " * 200 for one in CAPTIONS[:3000]])
    found = worth(recipe(), "store", machine=EIGHT)
    assert found.captions.held == worth(recipe(source__max_tokens=128), "store", machine=EIGHT).captions.held
    assert found.captions.held < 6001
    assert worth(recipe(source__max_tokens=500), "store", machine=EIGHT).captions.held > 8000


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"sample": 7000}, r"--sample 7,000: captions.jsonl hold .* distinct captions; lower it, or leave it out"),
        ({"upto": 7000}, r"--upto 7,000: captions.jsonl hold .* distinct captions .* lower it, or add captions"),
        ({"sample": 1000, "upto": 4000}, r"1,000 captions tell nothing beyond 3,000.*--sample 1,334 or more"),
        ({"step": 9000}, r"--step 9,000 is more than"),
        ({"step": 10}, r"--step 10 makes 5\d\d steps, at most 100 are told; raise it"),
        ({"sample": 100}, r"a sample of 100 distinct captions; a curve takes 240 or more: give --sample 240"),
    ],
)
def test_numbers_that_cannot_be_are_refused_in_words(asked: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        worth(recipe(), "store", machine=EIGHT, **asked)


def test_corpora_that_give_no_curve_are_refused_in_words() -> None:
    write(["", "  ", "\0"])
    with pytest.raises(ConfigError, match=r"captions.jsonl: 3 captions were read and none may be drawn"):
        worth(recipe(), "store", machine=EIGHT)
    write(["a red bus on a road"] * 500)
    with pytest.raises(ConfigError, match=r"a sample of 1 distinct captions.*: add captions that differ"):
        worth(recipe(), "store", machine=EIGHT)
    write([f"слово {number}" for number in range(500)])
    with pytest.raises(ConfigError, match="no caption speaks of two concepts of our list, which is English; add lines"):
        worth(recipe(), "store", machine=EIGHT)
    Path("captions.jsonl").unlink()
    with pytest.raises(InputCorrupt, match=r"captions.jsonl"):
        worth(recipe(), "store", machine=EIGHT)
    with pytest.raises(RefNotFound, match="there is no store"):
        worth(recipe(source={"use": "captions@latest"}), "store", machine=EIGHT)
    only_judges = load_recipe("compare")
    with pytest.raises(ConfigError, match="has no `source`: it draws no captions"):
        worth(only_judges, "store", machine=EIGHT)


def test_a_recipe_that_draws_nothing_has_a_curve_and_no_costs() -> None:
    changes = {"generate": None, "filter": None, "texts": None, "encode": [], "pretrain": []}
    found = worth(load_recipe("recipe.yaml", changes), "store", step=1000, machine=EIGHT)
    assert (found.costs, found.more) == ((), ())
    assert sentences(found)[1].startswith("The next 1,000 captions, to 2,000, add ")
    assert "device-hours" not in volume_page(found)
    assert len(rows(found)[0]) == 5


def test_each_step_is_a_sentence_and_the_last_word_is_where_it_ends(found: Worth) -> None:
    told = sentences(found)
    assert len(told) == len(found.growth.steps) == 5
    cost = found.more[1].gpu_hours
    gain = f"{found.growth.gain.mean[1]:.1%}"
    assert told[1].startswith(f"The next 1,000 captions (2,000 images), to 2,000, add {gain} coverage (")
    assert f" and cost {cost:.1f} GPU-hours, " in told[1]
    assert "no saturation is seen" in verdict(found)
    enough = worth(recipe(), "store", step=1000, least_gain=0.05, machine=EIGHT)
    assert enough.enough is not None
    gains = enough.growth.gain.mean[enough.growth.steps.index(enough.enough) + 1 :]
    assert all(gains < 0.05)
    reached = enough.growth.coverage.mean[enough.growth.at(enough.enough)]
    assert f"Beyond {enough.enough:,} captions ({reached:.1%} coverage) every further 1,000 add less" in verdict(enough)


def test_captions_of_which_each_is_its_own_are_not_called_enough() -> None:
    things = [name for kind, name in all_concepts().names if kind == "objects"][:60]
    write([f"{color} {thing}" for color in ("red", "blue", "green", "pink", "brown") for thing in things])
    found = worth(recipe(select__count=None), "store", step=50, machine=EIGHT)
    assert found.growth.coverage.mean.max() < 1e-9
    assert "Not even the first 50 captions show 1 %: " in verdict(found)


def test_the_count_and_the_choice_of_the_recipe_are_spoken_of(found: Worth) -> None:
    assert any("select.count asks for 2,000: " in fact for fact in facts(found))
    assert any("taken by balance, show" in ground for ground in grounds(found))
    more = worth(recipe(select__count=9000), "store", machine=EIGHT)
    assert any("asks for 9,000: there are not so many" in fact for fact in facts(more))
    assert more.choice is None
    short = worth(recipe(select__count=4000), "store", upto=2000, machine=EIGHT)
    assert any("beyond the end of this curve" in fact for fact in facts(short))


def test_a_last_step_may_be_smaller_and_decides_nothing() -> None:
    found = worth(recipe(), "store", upto=2100, step=1000, least_gain=0.03, machine=EIGHT)
    assert found.growth.steps == (1000, 2000, 2100)
    assert found.growth.gain.mean[2] < 0.03 < found.growth.gain.mean[1]
    assert found.enough is None


@pytest.mark.parametrize(("last", "step"), [(4, 1), (12, 1), (24_789, 2500), (600_000, 100_000), (2_000_000, 250_000)])
def test_steps_are_round(last: int, step: int) -> None:
    assert round_step(last) == step


def test_the_page_stands_alone_and_escapes_what_it_shows(found: Worth) -> None:
    page = volume_page(found)
    assert verdict(found) in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<svg") == 2
    Path("captions.jsonl").rename("<b>.jsonl")
    odd = volume_page(worth(recipe(source__corpora=[{"kind": "jsonl", "path": "<b>.jsonl", "field": "caption",
                                                    "source": "x"}]), "store", machine=EIGHT))  # fmt: skip
    assert "&lt;b&gt;.jsonl" in odd
    assert "<b>.jsonl" not in odd


def test_the_command_prints_writes_and_makes_nothing_else(monkeypatch, capsys) -> None:
    words = ("volume", "recipe.yaml", "--store", "store", "--on", "8xH100", "--step", "1k", "--page", "page.html")
    code, out, err = lightgen(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert "The next 1,000 captions (2,000 images), to 2,000, add" in out
    assert Path("page.html").read_text().startswith("<!doctype html>")
    assert {path.name for path in Path().iterdir()} == {"recipe.yaml", "captions.jsonl", "page.html"}
    code, out, err = lightgen(*words[:-2], "--json", monkeypatch=monkeypatch, capsys=capsys)
    told = json.loads(out)
    assert (code, err, told["steps"][1]["captions"]) == (0, "", 2000)
    assert {"mean", "low", "high"} == told["steps"][1]["gain"].keys()
    code, out, err = lightgen(*words[:-2], "--upto", "1M", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out) == (2, "")
    assert "lower it, or add captions" in err
