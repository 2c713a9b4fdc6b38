"""The steps of a recipe: each after what it is made of, only those that are needed, and sealed versions taken as is."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightgen.errors import ConfigError, RefNotFound
from lightgen.operations.run import run_recipe
from lightgen.operations.step import Step, inputs, until, walk
from lightgen.operations.steps import models, steps_of
from lightgen.recipe import RECIPES, Recipe, Use, load_recipe
from lightgen.storage.store import UNAUDITED, Store, open_or_create
from schemas.ref import ArtifactRef

TINY, LINKED = "tests/recipes/tiny.yaml", "tests/recipes/links.yaml"
# No teacher can draw held-out captions where its images are taken as they are.
OWN = {"pair.winner": "student", "pair.samples_per_prompt": 2}
WHOLE = load_recipe(TINY)


def names(steps: list[Step]) -> list[str]:
    return [step.name for step in steps]


def parts(*kept: str) -> Recipe:
    """The tiny recipe with these of its parts."""
    data = yaml.safe_load(Path(TINY).read_text())
    return Recipe.model_validate({"name": "part", **{name: data[name] for name in kept}})


@pytest.mark.parametrize("path", [TINY, LINKED, *(str(path) for path in sorted(RECIPES.glob("*.yaml")))], ids=str)
def test_every_step_stands_after_what_it_is_made_of_and_names_are_unique(path: str) -> None:
    recipe = load_recipe(path)
    before: set[str] = set()
    for step in steps_of(recipe):
        assert {*step.inputs, *step.after} <= before, step.name
        assert step.name not in before
        before.add(step.name)


def test_the_whole_recipe_has_all_its_steps() -> None:
    found = names(steps_of(WHOLE))
    assert found[:5] == ["source", "select", "generate", "score-pixels", "filter"]
    assert {"pretrain-16px", "pretrain-32px", "pair", "encode-pairs", "align-sft", "align-dpo", "evaluate"} <= {*found}
    assert found.index("align-sft") < found.index("align-dpo"), "the aligned student is published last"
    assert list(models(WHOLE)) == ["pretrained", "dpo", "sft", "16px"]


def test_pairs_are_not_encoded_before_their_audit_which_asks_about_both_sides() -> None:
    steps = {step.name: step for step in steps_of(load_recipe(LINKED))}
    assert steps["pair"].inputs == (
        "generate-held-out-student", "fetch", "score-held-out-student", "score-held-out-links",
    )  # fmt: skip
    assert steps["score-held-out-links"].inputs == ("fetch", "recaption-links")
    assert steps["generate-held-out-student"].inputs[0] == "recaption-links"
    assert set(steps["audit"].labels) == {"pairs", "probes", "probe_images", "held-out-student", "held-out-links"}
    assert (steps["pair"].role, steps["audit"].role) == (UNAUDITED, "held-out")
    needed = names(until(list(steps.values()), ["encode-pairs"]))
    assert needed.index("audit") < needed.index("encode-pairs")
    assert "audit" not in names(until(list(steps.values()), ["pair"]))


def test_without_an_audit_pairs_are_published_as_they_are() -> None:
    steps = {step.name: step for step in steps_of(load_recipe(LINKED, {"audit": None}))}
    assert steps["pair"].role == "held-out"
    assert steps["encode-pairs"].after == ()
    assert "probe" not in steps


def test_all_that_an_audit_may_ask_is_a_step_of_its_own() -> None:
    model = {"kind": "transformers", "model": "given"}
    more = {
        "audit.second": {"kind": "vlm", "model": model}, "audit.verdicts": {"path": "votes.csv"},
        "audit.compare": {"model": model},
    }  # fmt: skip
    steps = {step.name: step for step in steps_of(load_recipe(LINKED, more))}
    assert {"score-second-held-out-student", "score-second-held-out-links", "verdicts", "compare"} <= {*steps}
    assert set(steps["audit"].labels) >= {"human", "compare", "second-held-out-student", "second-held-out-links"}


def test_weights_by_margin_read_the_pairs() -> None:
    steps = {step.name: step for step in steps_of(load_recipe(LINKED, {"align.pair_weights": "margin"}))}
    assert steps["align-dpo"].inputs == ("pretrain-32px", "encode-pairs", "texts-pairs", "pair")


def test_shuffled_labels_are_a_control_beside_the_others() -> None:
    recipe = load_recipe(TINY, {"shuffled_control": True})
    steps = {step.name: step for step in steps_of(recipe)}
    assert steps["align-shuffled"].config == recipe.align.model_copy(update={"labels": "shuffled"})
    assert list(models(recipe)) == ["pretrained", "dpo", "shuffled", "sft", "16px"]
    assert [step.role for step in steps.values() if step.stage == "align"] == ["sft", "shuffled", "dpo"]
    with pytest.raises(ConfigError, match="control of DPO"):
        load_recipe(TINY, {"shuffled_control": True, "align.objective": "sft"})


def test_captions_written_for_images_are_what_is_encoded() -> None:
    steps = {step.name: step for step in steps_of(load_recipe(TINY, {"recaption": {"captioner": {"kind": "given"}}}))}
    assert steps["recaption"].inputs == ("generate", "filter")
    assert steps["encode-16px"].inputs == ("recaption", "generate", "fit-vae")
    assert steps["texts"].inputs == ("recaption",)


def test_texts_are_made_of_the_prompts_or_of_what_is_there_in_their_place() -> None:
    drawn = {step.name: step for step in steps_of(WHOLE)}
    assert (drawn["texts"].inputs, drawn["texts-pairs"].inputs) == (("select",), ("pair",))
    used = parts("source", "select", "generate", "filter", "texts").model_copy(
        update={"generate": Use(use="images@paid")}
    )
    assert {step.name: step for step in steps_of(used)}["texts"].inputs == ("filter",)


@pytest.mark.parametrize(
    ("kept", "last"),
    [
        (["source"], "source"),
        (["source", "select"], "select"),
        (["source", "select", "generate"], "generate"),
        (["source", "select", "generate", "filter"], "filter"),
        (["source", "select", "generate", "filter", "encode"], "encode-32px"),
        (["source", "select", "generate", "filter", "texts"], "texts"),
        (["source", "select", "generate", "filter", "texts", "encode", "pretrain"], "pretrain-32px"),
        (["source", "select", "generate", "filter", "texts", "encode", "pretrain", "held_out", "pair"], "encode-pairs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_recipe_may_leave_out_its_later_parts(kept: list[str], last: str) -> None:
    assert names(steps_of(parts(*kept)))[-1] == last


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (["source", "generate"], "generate needs select"),
        (["source", "select", "generate", "encode"], "encode needs filter"),
        (["source", "select", "generate", "filter", "encode", "pretrain"], "pretrain needs texts"),
        (["source", "select", "align"], "align needs pair"),
        (["source", "evaluate"], "evaluate needs test"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_part_whose_parents_are_left_out_is_refused(kept: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parts(*kept)


def test_a_teacher_alone_is_judged_without_any_student() -> None:
    found = names(steps_of(parts("source", "test", "evaluate")))
    assert found[-3:] == ["generate-test-teacher", "score-test-teacher", "evaluate"]


def test_until_keeps_the_order_and_only_what_a_goal_needs() -> None:
    steps = steps_of(WHOLE)
    assert names(until(steps, ["encode-16px"])) == [
        "source", "select", "generate", "score-pixels", "filter", "fit-vae", "encode-16px",
    ]  # fmt: skip
    both = until(steps, ["select-test", "source"])
    assert names(both) == ["source", "source-test", "select-test"]
    assert names(until(steps)) == names(steps)
    assert {step.stage for step in until(steps, ["encode"])} >= {"encode"}
    assert [step.name for step in until(steps, ["encode"]) if step.stage == "encode"] == ["encode-16px", "encode-32px"]
    with pytest.raises(ConfigError, match="no step 'encod'; it has source, select"):
        until(steps, ["encod"])


def test_scores_that_no_rule_reads_are_made_too() -> None:
    """A recipe that names a scorer wants its scores."""
    recipe = load_recipe(TINY, {"score.scenes": {"kind": "scenes"}})
    assert "score-scenes" in names(until(steps_of(recipe)))


def test_a_version_that_is_used_needs_none_of_the_steps_before_it() -> None:
    recipe = load_recipe(TINY, {"generate": {"use": "images@tag:paid"}, **OWN})
    by_name = {step.name: step for step in steps_of(recipe)}
    assert inputs(by_name["generate"]) == ()
    assert names(until(steps_of(recipe), ["filter"])) == ["generate", "score-pixels", "filter"]


def test_walk_gives_each_step_the_versions_of_its_inputs() -> None:
    given: dict[str, list[str]] = {}

    def call(step: Step, refs: list[ArtifactRef]) -> ArtifactRef:
        given[step.name] = [ref.uri for ref in refs]
        zeros = {"version": "0" * 32, "content": "0" * 64, "rows": 0, "fingerprint": "0" * 64}
        return ArtifactRef(kind="images", uri=step.name, **zeros)

    walk(steps_of(WHOLE), call)
    assert given["evaluate"][0] == "select-test"
    assert given["pair"] == [
        "generate-held-out-student", "generate-held-out-teacher", "score-held-out-student", "score-held-out-teacher",
    ]  # fmt: skip
    assert given["pretrain-32px"] == ["encode-32px", "texts", "pretrain-16px"]


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def run(store: Store, *goals: str, **changes: Any) -> dict[str, ArtifactRef]:
    return run_recipe(load_recipe(TINY, changes), store, goals)


def test_use_takes_a_sealed_version_as_it_is_and_makes_nothing_before_it(store: Store) -> None:
    first = run(store, "filter")
    store.tag(first["generate"], "paid")
    again = run(store, "filter", generate={"use": "images@tag:paid"}, **OWN)
    assert list(again) == ["generate", "score-pixels", "filter"]
    assert (again["generate"], again["filter"]) == (first["generate"], first["filter"])
    with pytest.raises(RefNotFound, match="images@tag:free"):
        run(store, "filter", generate={"use": "images@tag:free"}, **OWN)


def test_what_a_run_makes_is_found_by_its_role(store: Store) -> None:
    made = run(store, "select", "select-test")
    assert store.open("prompts@train").ref == made["select"]
    assert store.open("prompts@test").ref == made["select-test"]
    assert store.open("captions@test").ref == made["source-test"]
    assert store.open("captions@train").ref.rows == 48
    with pytest.raises(RefNotFound, match=r"captions@test, captions@train"):
        store.open("captions@dpo")
