"""Reports: the same exam for all, figures that agree with the rows, an escaped page, and a fingerprint of rows only."""

import io
import json
import re
from collections import Counter

import pytest
from lightgen.stages.exam import read_exam
from PIL import Image

from lightgen.errors import ConfigError, InputCorrupt
from lightgen.seeds import content_id, derive_seed
from lightgen.stages.evaluate import EvaluateConfig, evaluate
from schemas.report import Report


@pytest.fixture(scope="module")
def config(sample):
    settings = {
        "detector": {"kind": "scenes"}, "sample": sample, "teacher": {"kind": "scenes"}, "size_px": 32,
        "samples_per_prompt": 2, "resamples": 200, "exhibits_per_task": 2, "device": "cpu",
    }  # fmt: skip
    return EvaluateConfig.model_validate(settings)


@pytest.fixture(scope="module")
def report(chain, config):
    models = {"teacher": None, "student": chain.checkpoint}
    return chain.store.open(evaluate(chain.captions, models, config, chain.store, seed=4))


def test_all_models_sit_the_same_exam(report):
    rows = report.table().to_pylist()
    questions = {name: {(r["prompt_id"], r["sample"], r["seed"]) for r in rows if r["model"] == name} for name in
                 ("teacher", "untrained", "student")}  # fmt: skip
    assert len(questions["teacher"]) == 48
    assert questions["teacher"] == questions["untrained"] == questions["student"]
    assert all(seed == derive_seed(4, "evaluate", prompt, sample) for prompt, sample, seed in questions["student"])
    pictures = Counter(row["model"] for row in {row["image_sha256"]: row for row in rows}.values())
    assert pictures["student"] == pictures["untrained"] == 48, "fresh and trained weights draw different images"


def test_the_teacher_is_right_and_figures_are_those_of_the_rows(report):
    figures = Report.model_validate_json(report.file("report.json").read_bytes())
    rows = report.table().to_pylist()
    for model in figures.models:
        for task, interval in model.tasks.items():
            marks = [row["correct"] for row in rows if (row["model"], row["task"]) == (model.name, task)]
            assert interval.mean == pytest.approx(sum(marks) / len(marks))
            assert interval.low <= interval.mean <= interval.high
        assert model.overall.mean == pytest.approx(sum(each.mean for each in model.tasks.values()) / 6)
    assert figures.models[0].name == "teacher"
    assert figures.models[0].overall.mean > 0.9
    assert [model.version for model in figures.models] == [None, None, figures.models[2].version]
    assert figures.differences == []


def test_the_page_stands_alone_and_shows_every_stage(report, chain):
    page = report.file("report.html").read_text()
    assert "<script" not in page
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[a-z/]""", page), "nothing is loaded from outside"
    assert page.count("<img") == 3 * 6 * 2
    for ref in (chain.captions, chain.images, chain.kept, chain.vae, chain.features, chain.checkpoint):
        assert ref.version in page
    assert "too_long 1" in page
    with Image.open(io.BytesIO(report.file("grid.png").read_bytes())) as grid:
        assert grid.size[0] > 600
    assert len(report.file("grid.png").read_bytes()) < 300_000


def test_limits_name_no_other_version_and_the_price_no_other_content(chain, config, report):
    models = {"teacher": None, "student": chain.checkpoint}
    same = config.model_copy(update={"max_reject_fraction": 1.0})
    assert evaluate(chain.captions, models, same, chain.store, seed=4) == report.ref
    small = config.model_copy(update={"untrained": False, "samples_per_prompt": 1})
    costly = small.model_copy(update={"usd_per_hour": 2.5})
    first, second = (evaluate(chain.captions, models, one, chain.store, seed=4) for one in (small, costly))
    assert first.version != second.version
    assert first.fingerprint == second.fingerprint
    assert "2.50 USD an hour" in chain.store.open(second).file("report.html").read_text()


def test_two_checkpoints_are_compared_with_the_first(chain, config):
    models = {"pretrained": chain.checkpoint, "again": chain.checkpoint}
    small = config.model_copy(update={"untrained": False, "samples_per_prompt": 1})
    version = chain.store.open(evaluate(chain.captions, models, small, chain.store, seed=4))
    figures = Report.model_validate_json(version.file("report.json").read_bytes())
    assert [(one.name, one.baseline) for one in figures.differences] == [("again", "pretrained")]
    assert figures.differences[0].overall.mean == 0, "the same weights, prompts and seeds"
    assert figures.findings[0].startswith("again: no change against pretrained")


def test_prompts_without_meaning_are_refused_and_geneval_metadata_gives_it(chain, tmp_path):
    prompts = chain.store.open(chain.captions)
    path = tmp_path / "evaluation_metadata.jsonl"
    caption = prompts.table().to_pylist()[0]["caption"]
    meaning = {"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "red"}], "prompt": caption}
    path.write_text(json.dumps(meaning) + "\n")
    plain, known = read_exam(prompts, None, 1, 0), read_exam(prompts, str(path), 1, 0)
    assert plain.jobs[0].metadata.include[0].name != "dog"
    assert known.jobs[0].metadata.include[0].name == "dog"
    assert known.metadata_sha256
    assert not plain.metadata_sha256
    path.write_text("{}\n")
    with pytest.raises(InputCorrupt, match="line 1"):
        read_exam(prompts, str(path), 1, 0)
    with pytest.raises(InputCorrupt, match="cannot be read"):
        read_exam(prompts, str(tmp_path / "absent"), 1, 0)


def test_a_caption_outside_the_grammar_is_a_reject_of_the_report(chain, config, write_captions, evil):
    prompts = write_captions(chain.store, ["a red circle", evil])
    small = config.model_copy(update={"untrained": False, "samples_per_prompt": 1, "max_reject_fraction": 0.9})
    version = chain.store.open(evaluate(prompts, {"student": chain.checkpoint}, small, chain.store, seed=4))
    assert version.rows == 1
    assert version.reject_reasons == {"not_a_geneval_prompt": 1}
    assert version.rejects().to_pylist()[0]["id"] == content_id(evil)


@pytest.mark.parametrize("models", [{}, {"teacher": None}])
def test_models_that_cannot_be_judged_are_named(chain, config, models):
    with pytest.raises(ConfigError):
        evaluate(chain.captions, models, config.model_copy(update={"teacher": None}), chain.store, seed=4)
