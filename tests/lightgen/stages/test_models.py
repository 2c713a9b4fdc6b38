"""Models of others in one report: generators, students of the store, folders of pictures, and what others printed."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lightgen.errors import ConfigError, InputCorrupt
from lightgen.evaluation.geneval import scene_meaning
from lightgen.evaluation.geneval_folder import write_folder
from lightgen.evaluation.published_rows import published_tables
from lightgen.fetch.loopback import picture
from lightgen.generators.tiny_pipelines import tiny_pipeline
from lightgen.operations.preflight import preflight
from lightgen.operations.rehearsal import rehearse
from lightgen.operations.run import run_recipe
from lightgen.operations.stand_in import train_stand_in
from lightgen.operations.steps import models, steps_of
from lightgen.pages.evaluation import read_published, read_report, report_grid, report_html
from lightgen.recipe import Recipe, load_recipe
from lightgen.stages.evaluate import EvaluateConfig
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context
from schemas.report import TASKS, Published

COUNT = 12
SAMPLE = {"iterations": 2, "head": "ddim", "head_steps": 2, "guidance": 1.0}
STUDENT = {"kind": "student", "checkpoint": "checkpoint@stand-in", "sample": SAMPLE}


def recipe(others: dict[str, Any], **changes: Any) -> Recipe:
    """Judges models and makes none."""
    return Recipe.model_validate({
        "name": "compared",
        "test": {
            "source": {"corpora": [{"kind": "scenes", "split": "test", "count": COUNT}]},
            "select": {"near_duplicates": None},
        },
        "evaluate": {
            "detector": {"kind": "scenes"}, "models": others, "samples_per_prompt": 2, "resamples": 100, **changes,
        },
    })  # fmt: skip


def captions(store: Store) -> list[str]:
    made = run_recipe(recipe({"a": {"kind": "generator", "generator": {"kind": "scenes"}, "size_px": 32}}), store,
                      ["select-test"])  # fmt: skip
    return store.open(made["select-test"]).table()["caption"].to_pylist()


def folder(place: Path, texts: list[str], samples: int = 2) -> Path:
    """Pictures in GenEval's layout; those of the last caption are missing."""
    known = {
        text: meaning.model_copy(update={"prompt": text}) for text in texts[:-1] if (meaning := scene_meaning(text))
    }
    found = [(known[text], {index: picture(index, "png", 64, text) for index in range(samples)}) for text in known]
    assert sum(write_folder(place, found)) == samples * (len(texts) - 1)
    return place


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, Store]:
    """A report on a scene painter, a diffusers pipeline, a student of the store and a folder, beside printed tables."""
    place = tmp_path_factory.mktemp("compared")
    store = open_or_create(str(place / "store"))
    train_stand_in(Context(store, seed=1))
    pipeline = {"kind": "diffusers", "model": str(tiny_pipeline(place / "sd", "StableDiffusionPipeline")), "steps": 1,
                "guidance": 1.5, "dtype": "float32"}  # fmt: skip
    others = {
        "student": {"kind": "generator", "generator": STUDENT},
        "painter": {"kind": "generator", "generator": {"kind": "scenes"}, "size_px": 64},
        "sd": {"kind": "generator", "generator": pipeline, "size_px": 32, "batch": 4},
        "theirs": {"kind": "folder", "path": str(folder(place / "theirs", captions(store)))},
        "paper": {"kind": "published"},
    }
    made = run_recipe(recipe(others), store)
    return store.open(made["evaluate"]), store


def test_one_report_judges_generators_students_and_folders_by_the_same_code(compared: tuple[Version, Store]) -> None:
    version, store = compared
    report = read_report(version)
    assert [model.name for model in report.models] == ["student", "painter", "sd", "theirs"]
    scores = {model.name: model for model in report.models}
    assert len({model.images for model in report.models}) == 1, "all are asked for the same images"
    assert scores["painter"].overall.mean > 0.95
    assert scores["sd"].overall.mean < 0.1
    assert scores["theirs"].not_drawn == 2, "what a folder has not is wrong"
    assert scores["theirs"].overall.mean > 0.8
    student = store.open("checkpoint@stand-in").ref
    assert [model.checkpoint for model in report.models] == [student.content, None, None, None]


def test_what_others_printed_stands_apart_and_in_no_figure_of_the_report(compared: tuple[Version, Store]) -> None:
    version, store = compared
    tables = read_published(version)
    assert [table.name for table in tables] == ["Table 1", "Table 2", "Table 3"]
    said = version.file("report.json").read_text()
    assert "Chameleon" not in said
    assert "0.62" not in json.dumps([model.name for model in read_report(version).models])
    page = report_html(version, store, each=1)
    measured, _, printed = page.partition("Published, not run")
    assert "Chameleon" not in measured
    assert "Chameleon" in printed
    assert "ranked with nothing on this page" in printed
    assert report_grid(version, store, each=1).startswith(b"\x89PNG")


def test_without_printed_tables_a_report_has_neither_file_nor_section(compared: tuple[Version, Store]) -> None:
    _, store = compared
    plain = recipe({"painter": {"kind": "generator", "generator": {"kind": "scenes"}, "size_px": 64}})
    version = store.open(run_recipe(plain, store)["evaluate"])
    assert "published.json" not in version.file_names
    assert "Published, not run" not in report_html(version, store, each=1)


def test_the_tables_shown_are_part_of_the_name_and_where_they_lie_is_not(tmp_path: Path) -> None:
    store = open_or_create(str(tmp_path / "store"))
    painter = {"kind": "generator", "generator": {"kind": "scenes"}, "size_px": 32}
    copy = tmp_path / "copy.json"
    copy.write_text(Published(tables=published_tables("lightgen")).model_dump_json())
    kinds = [
        {"kind": "published"},
        {"kind": "published", "of": str(copy)},
        {"kind": "published", "tables": ["Table 2"]},
    ]
    own, copied, one = (run_recipe(recipe({"a": painter, "p": kind}), store)["evaluate"] for kind in kinds)
    assert own == copied
    assert one.version != own.version
    assert [table.name for table in read_published(store.open(one))] == ["Table 2"]


# --- the printed figures ----------------------------------------------------------------------------------------------

# Overall as printed, in the order of the paper; the tasks are held against it by the test that follows.
PRINTED = {
    "Table 1": [0.13, 0.02, 0.01, 0.50, 0.54, 0.31, 0.49, 0.53],
    "Table 2": [0.42, 0.34, 0.26, 0.65, 0.61, 0.10, 0.53, 0.62],
    "Table 3": [0.43, 0.50, 0.55, 0.67, 0.68, 0.66, 0.10, 0.39, 0.51, 0.53, 0.62],
}


def test_the_tables_of_the_paper_are_those_that_were_printed() -> None:
    found = {table.name: [row.overall for row in table.rows] for table in published_tables("lightgen")}
    assert found == PRINTED


def test_the_overall_score_of_a_row_is_the_mean_of_its_tasks_or_the_row_says_that_it_is_not() -> None:
    """Two numbers printed to two digits: a wrong digit of a task moves the mean by a sixth of it."""
    odd = []
    for table in published_tables("lightgen"):
        for row in (row for row in table.rows if row.tasks):
            assert set(row.tasks) == set(TASKS)
            if abs(sum(row.tasks.values()) / 6 - row.overall) > 0.01:
                odd.append((table.name, row.model))
                assert row.note
    assert odd == [("Table 1", "Stable Diffusion XL")]


@pytest.mark.parametrize(
    ("text", "said"),
    [("no JSON", "no published tables"), ('{"tables": [{}]}', "Field required"), (None, "No such file")],
)
def test_a_file_of_tables_that_is_none_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "mine.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputCorrupt, match=said):
        published_tables(str(path))


# --- before the first paid minute -------------------------------------------------------------------------------------


def stopping(asked: Recipe, store: Path) -> set[str]:
    return {problem.where for problem in preflight(asked, str(store)).problems if problem.weight == "stops"}


def test_plan_asks_for_every_model_before_the_first_image_of_any(tmp_path: Path) -> None:
    wrong = {
        "student": {"kind": "generator", "generator": STUDENT | {"checkpoint": "checkpoint@dpo"}},
        "flux": {"kind": "generator", "generator": {"kind": "flux", "model": str(tmp_path / "none")}, "size_px": 40},
        "theirs": {"kind": "folder", "path": str(tmp_path / "none")},
        "paper": {"kind": "published", "tables": ["Table 9"]},
    }
    found = stopping(recipe(wrong), tmp_path / "store")
    assert {where.removeprefix("evaluate.models.") for where in found} >= {
        "student.generator.checkpoint", "flux.size_px", "theirs.path", "paper.tables",
    }  # fmt: skip
    assert not (tmp_path / "store").exists()


def test_a_name_that_the_report_gives_another_is_refused() -> None:
    painter = {"kind": "generator", "generator": {"kind": "scenes"}, "size_px": 32}
    whole = load_recipe("tests/recipes/tiny.yaml")
    assert whole.evaluate is not None
    for name in ("untrained", "reference", "pretrained"):
        twice = EvaluateConfig.model_validate(whole.evaluate.model_dump() | {"models": {name: painter}})
        with pytest.raises(ConfigError, match=f"{name} is what the report calls another"):
            twice.generators(list(models(whole)))


def test_a_generator_without_a_size_of_its_own_must_be_given_one() -> None:
    with pytest.raises(ValidationError, match="has no size of its own"):
        recipe({"a": {"kind": "generator", "generator": {"kind": "scenes"}}})
    with pytest.raises(ValidationError, match="give `source`"):
        recipe({})


def test_others_stand_behind_the_models_of_a_recipe_so_that_the_pretrained_student_stays_the_one_compared_with() -> (
    None
):
    painter = {"kind": "generator", "generator": STUDENT}
    whole = load_recipe("tests/recipes/tiny.yaml").model_dump()
    whole["evaluate"]["models"] = {"other": painter} | whole["evaluate"]["models"]
    step = steps_of(Recipe.model_validate(whole))[-1]
    assert step.labels[1:] == ("teacher", "untrained", "pretrained", "dpo", "sft", "16px", "other")


def test_the_teacher_is_one_of_the_models_and_stands_first_by_its_name() -> None:
    """Reports of recipes that had it apart keep their names: the order of the models is in them."""
    painter = {"kind": "generator", "generator": {"kind": "scenes"}, "size_px": 32}
    config = EvaluateConfig.model_validate(
        {"detector": {"kind": "scenes"}, "models": {"b": painter, "teacher": painter}}
    )
    assert list(config.generators(["pretrained"])) == ["teacher", "untrained", "pretrained", "b"]


@pytest.mark.parametrize(
    ("key", "said"),
    [("teacher", r"evaluate\.teacher: this setting is gone; write models: \{teacher: \{kind: generator"),
     ("size_px", r"evaluate\.size_px: this setting is gone; each of models has its own")],
)  # fmt: skip
def test_the_settings_of_earlier_releases_are_refused_with_what_to_write_instead(key: str, said: str) -> None:
    given = {"teacher": {"kind": "scenes"}, "size_px": 32}[key]
    with pytest.raises(ConfigError, match=said):
        load_recipe("tests/recipes/tiny.yaml", {f"evaluate.{key}": given})


# --- the paper's comparison -------------------------------------------------------------------------------------------


def test_the_papers_comparison_is_one_recipe_with_every_model_of_its_table() -> None:
    compare = load_recipe("compare")
    assert compare.evaluate is not None
    assert {one.kind for one in compare.evaluate.models.values()} == {"generator", "folder", "published"}
    (table,) = [one for one in compare.evaluate.published if one.name == "Table 2"]
    assert len(table.rows) == 8
    drawn = {*compare.evaluate.generators([]), *compare.evaluate.folders}
    assert drawn == {"pretrained", "dpo", "sd15", "sd21", "sdxl", "sd35", "flux", "dalle3", "llamagen", "chameleon",
                     "seed-x", "show-o"}  # fmt: skip


@pytest.mark.long
def test_the_papers_comparison_is_rehearsed_with_tiny_models(tmp_path: Path) -> None:
    compare = load_recipe("compare")
    done = {one.name: one for one in rehearse(compare, str(tmp_path / "store"), processes=2)}
    assert list(done) == [step.name for step in steps_of(compare)]
    assert done["generate-test-dpo"].note == "a student of two steps in place of checkpoint@dpo"
    assert all(one.rows > 0 for one in done.values())


def test_a_student_of_the_store_and_a_folder_are_rehearsed_by_stand_ins(tmp_path: Path) -> None:
    asked = recipe({
        "student": {"kind": "generator", "generator": STUDENT | {"checkpoint": "checkpoint@dpo"}},
        "theirs": {"kind": "folder", "path": "nowhere"},
    })  # fmt: skip
    done = {one.name: one for one in rehearse(asked, str(tmp_path / "store"))}
    assert done["generate-test-student"].note == "a student of two steps in place of checkpoint@dpo"
    assert done["adopt-test-theirs"].rows > 0
    assert done["evaluate"].rows > 0
