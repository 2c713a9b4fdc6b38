"""Reports: the same exam for all, figures that agree with the rows, and what could not be judged counted as wrong."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from lightgen.config import problems_of
from lightgen.errors import ConfigError, InputCorrupt
from lightgen.evaluation.best_of import BestOfCurves
from lightgen.evaluation.geneval_folder import read_metadata
from lightgen.pages.evaluation import report_html
from lightgen.pages.report import shown_tasks
from lightgen.scorers.layout import LayoutConfig
from lightgen.scorers.scenes import DETECTIONS
from lightgen.seeds import derive_seed
from lightgen.stages.evaluate import EvaluateConfig, evaluate
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context
from schemas.report import Report
from tests.lightgen.conftest import Chain
from tests.lightgen.sealed import Row, image, images, prompts, scores
from tests.lightgen.stages.exam import exam_config, report_of, scores_of


@pytest.fixture(scope="module")
def config(sample) -> EvaluateConfig:
    return exam_config(sample)


@pytest.fixture(scope="module")
def report(chain: Chain, config: EvaluateConfig) -> Version:
    return report_of(chain, config)


def figures(version: Version) -> Report:
    return Report.model_validate_json(version.file("report.json").read_bytes())


def test_all_models_sit_the_same_exam(report: Version, chain: Chain) -> None:
    rows = report.table().to_pylist()
    questions = {name: {(r["prompt_id"], r["index"]) for r in rows if r["model"] == name} for name in
                 ("teacher", "untrained", "student")}  # fmt: skip
    assert len(questions["teacher"]) == 48
    assert questions["teacher"] == questions["untrained"] == questions["student"]
    drawn = [chain.store.open(chain.store.open(ref).parent("images")).table().to_pylist() for ref in report.parents[1:]]
    for one in drawn:
        assert all(row["seed"] == derive_seed(4, "generate", row["prompt_id"], row["index"]) for row in one)
    pictures = Counter(row["generator"] for one in drawn for row in {r["image_sha256"]: r for r in one}.values())
    assert pictures["student"] == pictures["untrained"] == 48, "fresh and trained weights draw different images"
    assert {row["image_id"] for row in rows} == {row["id"] for one in drawn for row in one}


def test_the_teacher_is_right_and_figures_are_those_of_the_rows(report: Version, chain: Chain) -> None:
    said, rows = figures(report), report.table().to_pylist()
    for model in said.models:
        for task, interval in model.tasks.items():
            marks = [row["correct"] for row in rows if (row["model"], row["task"]) == (model.name, task)]
            assert interval.mean == pytest.approx(sum(marks) / len(marks))
            assert interval.low <= interval.mean <= interval.high
        assert model.overall.mean == pytest.approx(sum(each.mean for each in model.tasks.values()) / 6)
    assert said.models[0].name == "teacher"
    assert said.models[0].overall.mean > 0.9
    assert [model.checkpoint for model in said.models] == [None, None, chain.checkpoint.content]
    assert said.differences == []


def test_what_the_page_shows_and_where_limits_lie_names_no_other_version(
    chain: Chain, config: EvaluateConfig, report: Version
) -> None:
    found = scores_of(chain, config, {"student": chain.checkpoint})
    for same in ({"max_reject_fraction": 1.0}, {"usd_per_hour": 2.5}, {"exhibits_per_task": 1}):
        changed = config.model_copy(update=same)
        assert evaluate(chain.prompts, found, changed, chain.context(4)) == report.ref
    other = config.model_copy(update={"resamples": 300})
    assert evaluate(chain.prompts, found, other, chain.context(4)).version != report.ref.version


def test_two_checkpoints_are_compared_with_the_first(chain: Chain, sample) -> None:
    small = exam_config(sample, models={}, untrained=False, samples_per_prompt=1)
    found = scores_of(chain, small, {"pretrained": chain.checkpoint, "again": chain.checkpoint})
    said = figures(chain.store.open(evaluate(chain.prompts, found, small, chain.context(4))))
    assert [(one.name, one.baseline) for one in said.differences] == [("again", "pretrained")]
    assert said.differences[0].overall.mean == 0, "the same weights, prompts and seeds"
    assert said.findings[0].startswith("again: no change against pretrained")


@pytest.mark.parametrize("reference", ["teacher", "images@given"])
def test_pictures_are_compared_in_the_space_of_a_network_with_the_teachers_or_with_any_images(
    chain: Chain, sample, reference: str
) -> None:
    config = exam_config(sample, features={"kind": "layout"}, reference=reference)
    found = scores_of(chain, config, {"student": chain.checkpoint})
    context, scorer = chain.context(4), ScoreConfig(scorer=LayoutConfig())
    vectors = {name: score(chain.store.open(ref).parent("images"), scorer, context) for name, ref in found.items()}
    if reference not in found:
        with pytest.raises(ConfigError, match="no features of reference"):
            evaluate(chain.prompts, found, config, context, vectors)
        vectors["reference"] = score(chain.images, scorer, context)
    version = chain.store.open(evaluate(chain.prompts, found, config, context, vectors))
    like = figures(version).likeness
    assert like is not None
    assert (like.reference, like.features, like.network[:6]) == (reference, 256, "layout")
    teacher, untrained, student = like.models
    assert (teacher.frechet is None) == (reference == "teacher")
    assert untrained.frechet is not None
    assert student.frechet is not None
    assert like.halves.frechet is not None
    assert like.halves.frechet < untrained.frechet / 2, "noise is farther than half the reference from its other half"
    assert all(model.images == 48 and model.distance and model.vendi for model in like.models)
    assert version.table().equals(chain.store.open(evaluate(chain.prompts, found, config, context)).table())
    page = report_html(version, chain.store, each=1)
    assert "In the space of layout" in page
    assert "FID" not in page


def test_a_network_without_vectors_and_a_reference_that_nobody_draws_are_refused(sample) -> None:
    wrong = exam_config(sample, features={"kind": "pixels"}, models={})
    assert [problem.where for problem in wrong.problems()] == ["features", "reference"]
    assert list(exam_config(sample, features={"kind": "layout"}).problems()) == []


CIRCLE = {"class": "circle", "color": "red", "score": 0.95, "box": [8, 8, 24, 24]}
RIGHT: Row = {"detections": json.dumps([CIRCLE])}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def judged(store: Store, texts: list[str], answers: dict[int, Row], **changes: object) -> Version:
    """The report on one model, whose image of prompt `place` got the answer at `place`; others it did not draw."""
    asked = prompts(store, texts)
    rows = [image(str(place), b"png", texts[place], prompt_id=f"{place:032x}") for place in answers]
    drawn = images(store, rows)
    by_id = {row["id"]: answer for (row, _), answer in zip(rows, answers.values(), strict=True)}
    found = scores(store, drawn, by_id, DETECTIONS)
    settings = {"detector": {"kind": "scenes"}, "samples_per_prompt": 1, "resamples": 100, "max_reject_fraction": 0.9}
    config = EvaluateConfig.model_validate(settings | changes)
    return store.open(evaluate(asked, {"model": found}, config, Context(store)))


def test_an_image_that_was_not_drawn_or_could_not_be_scored_counts_as_wrong(store: Store) -> None:
    silent: Row = {"unscored": "image_truncated"}
    version = judged(store, ["a red circle", "a circle", "two red circles"], {0: RIGHT, 2: silent})
    assert [(row["correct"], row["reason"], row["image_id"] is None) for row in version.table().to_pylist()] == [
        (True, "", False), (False, "no image could be drawn", True), (False, "image_truncated", False),
    ]  # fmt: skip
    model = figures(version).models[0]
    assert (model.images, model.not_drawn, model.not_scored) == (3, 1, 1)
    assert {task: share.mean for task, share in model.tasks.items()} == {
        "single_object": 0.0, "counting": 0.0, "colors": 1.0,
    }  # fmt: skip


def test_one_right_image_of_five_is_a_fifth_though_the_other_four_were_never_drawn(store: Store) -> None:
    version = judged(store, ["a red circle"] + [f"a {color} square" for color in ("red", "blue", "green", "yellow")],
                     {0: RIGHT})  # fmt: skip
    model = figures(version).models[0]
    assert (model.images, model.not_drawn, model.overall.mean) == (5, 4, 0.2)


def test_the_same_scores_are_judged_at_other_overlaps_and_rows_keep_the_verdict(store: Store) -> None:
    """A circle of overlap 0.7 is none at 0.82 and one at 0.5; asking twice changes neither row nor first figure."""
    soft: Row = {"detections": json.dumps([CIRCLE | {"score": 0.7}])}
    texts, answers = ["a red circle", "a circle"], {0: RIGHT, 1: soft}
    alone = judged(store, texts, answers)
    both = judged(store, texts, answers, gates=[0.5, 0.6, 0.82])
    assert both.table().equals(alone.table())
    assert [row["correct"] for row in both.table().to_pylist()] == [True, False]
    said = figures(both)
    assert said.models == figures(alone).models
    assert (said.sure, [gate.sure for gate in said.gates]) == (0.82, [0.6, 0.5])
    assert [gate.models[0].overall.mean for gate in said.gates] == [1.0, 1.0]
    loose = judged(store, texts, answers, verdict={"kind": "scenes", "sure": 0.5})
    assert said.gates[1].models == figures(loose).models
    assert both.ref.version != alone.ref.version
    assert both.parents == alone.parents, "nothing was drawn or scored again"


def test_gates_of_a_verdict_without_overlaps_are_refused() -> None:
    geneval = {"detector": {"kind": "mask2former"}, "verdict": {"kind": "geneval"}, "gates": [0.5]}
    assert "gates" in {problem.where for problem in EvaluateConfig.model_validate(geneval).problems()}


def test_a_caption_outside_the_grammar_is_a_reject_of_the_report(store: Store, evil: str) -> None:
    version = judged(store, ["a red circle", evil], {0: RIGHT, 1: RIGHT})
    assert version.rows == 1
    assert version.reject_reasons == {"not_a_geneval_prompt": 1}
    assert version.rejects().to_pylist()[0]["id"] == f"{1:032x}"


def test_genevals_metadata_say_what_other_prompts_mean(store: Store, tmp_path: Path) -> None:
    path, text = tmp_path / "evaluation_metadata.jsonl", "a photo of a red dog"
    meaning = {"tag": "colors", "include": [{"class": "dog", "count": 1, "color": "red"}], "prompt": text}
    path.write_text(json.dumps(meaning) + "\n")
    dog: Row = {"detections": json.dumps([CIRCLE | {"class": "dog"}])}
    plain = judged(store, [text, "a red circle"], {0: dog, 1: RIGHT})
    known = judged(store, [text, "a red circle"], {0: dog, 1: RIGHT}, metadata=str(path))
    assert plain.reject_reasons == {"not_a_geneval_prompt": 1}
    assert [(row["task"], row["correct"]) for row in known.table().to_pylist()] == [("colors", True), ("colors", True)]
    assert known.ref.version != plain.ref.version
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(path.read_bytes())
    assert judged(store, [text, "a red circle"], {0: dog, 1: RIGHT}, metadata=str(moved)).ref == known.ref


def test_metadata_that_cannot_be_read_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("{}\n")
    with pytest.raises(InputCorrupt, match="line 1"):
        read_metadata(str(path))
    with pytest.raises(InputCorrupt, match="cannot be read"):
        read_metadata(str(tmp_path / "absent"))
    assert read_metadata(None) == ({}, "")


@pytest.mark.parametrize("name", ["metadata", "metadata_blank_end", "metadata_bom"])
def test_metadata_are_found_by_prompts_that_were_cleaned(name: str) -> None:
    """Blank lines and a byte order mark hold nothing; double spaces and curly quotes set no prompt apart."""
    known, _ = read_metadata(str(Path(__file__).parents[2] / "cases" / "captions" / f"{name}.jsonl"))
    assert list(known) == ["a photo of two clocks", "a photo of a red cup", "a photo of the king's bench"]


def test_no_image_is_opened(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightgen.storage.pixels.decode_image", lambda data: pytest.fail("an image was decoded"))
    monkeypatch.setattr("lightgen.storage.version.Version.samples", lambda *_: pytest.fail("a tar was read"))
    monkeypatch.setattr("lightgen.storage.version.Version.member", lambda *_: pytest.fail("a tar was read"))
    assert judged(store, ["a red circle"], {0: RIGHT}).rows == 1


def test_nobody_to_judge_is_said(chain: Chain, config: EvaluateConfig) -> None:
    assert config.model_copy(update={"models": {}}).generators([]) == {}
    with pytest.raises(ConfigError, match="no model to judge"):
        evaluate(chain.prompts, {}, config, chain.context(4))


# --- questions of each caption ----------------------------------------------------------------------------------------


def answered(*ps: float) -> Row:
    return {"answers": json.dumps([{"question": f"q{n}", "answer": "yes", "p": p} for n, p in enumerate(ps)])}


def test_a_judge_that_was_asked_questions_of_each_caption_gives_a_report_with_intervals(store: Store) -> None:
    texts = [f"caption {place}" for place in range(8)]
    judge = {"kind": "vlm", "questions": {"kind": "file", "path": "given"}, "model": {"kind": "transformers"}}
    config = EvaluateConfig.model_validate(
        {"detector": judge, "verdict": {"kind": "questions"}, "samples_per_prompt": 1, "resamples": 200}
    )
    schema = pa.schema([pa.field("answers", pa.string())])
    given: dict[str, dict[int, Row]] = {
        "good": {place: answered(0.9, 0.8) for place in range(7)},
        "bad": {place: answered(0.9, 0.4) if place % 2 else answered(0.6) for place in range(6)},
    }
    given["good"][7] = {"unscored": "no_questions", "unscored_detail": "none"}
    asked, judged = prompts(store, texts), {}
    for name, answers in given.items():
        rows = [image(f"{name} {place}", b"png", texts[place], prompt_id=f"{place:032x}") for place in answers]
        by_id = {row["id"]: answer for (row, _), answer in zip(rows, answers.values(), strict=True)}
        drawn = images(store, rows)
        judged[name] = scores(store, drawn, by_id, schema)
    version = store.open(evaluate(asked, judged, config, Context(store)))
    assert version.reject_reasons == {"no_questions": 1}
    good, bad = figures(version).models
    assert good.tasks["questions"].mean == good.overall.mean == 1.0
    assert bad.tasks["questions"].mean == pytest.approx(3 / 7)
    assert bad.overall.low < 3 / 7 < bad.overall.high
    means = json.loads(version.file("questions.json").read_text())
    assert means["good"]["arithmetic"]["value"] == pytest.approx(0.85)
    assert means["good"]["geometric"]["value"] == pytest.approx(0.72**0.5)
    # Of seven captions one was not drawn, and counts nothing.
    assert means["bad"]["arithmetic"]["value"] == pytest.approx((3 * 0.65 + 3 * 0.6) / 7)
    assert means["bad"]["arithmetic"]["low"] < means["bad"]["arithmetic"]["value"]
    reasons = {row["reason"] for row in version.table().to_pylist() if row["model"] == "bad"}
    assert reasons == {"", "q1", "no image could be drawn"}
    assert "questions" in shown_tasks(figures(version))


def test_the_best_of_n_by_the_verdict_itself_is_the_ceiling_and_by_nothing_is_the_plain_score(
    chain: Chain, sample
) -> None:
    right = {"scorer": {"kind": "scenes"}, "column": "correct", "derive": {"kind": "scenes"}, "most": 2}
    blind = {"scorer": {"kind": "pixels"}, "column": "width", "most": 2}
    for best_of, meaning in ((right, "ceiling"), (blind, "plain")):
        config = exam_config(sample, untrained=False, best_of=best_of)
        found = scores_of(chain, config, {"student": chain.checkpoint})
        how = ScoreConfig(scorer=config.best_of.scorer)
        best = {n: score(chain.store.open(one).parent("images"), how, chain.context(4)) for n, one in found.items()}
        version = chain.store.open(evaluate(chain.prompts, found, config, chain.context(4), best=best))
        curves = BestOfCurves.model_validate_json(version.file("best_of.json").read_bytes()).curves
        for model in figures(version).models:
            one, two = curves[model.name]
            assert one.mean == pytest.approx(model.overall.mean)
            if meaning == "ceiling":
                assert two.mean == pytest.approx(two.oracle)
        assert "The best of N images" in report_html(version, chain.store)


def test_best_of_without_scores_of_its_scorer_is_refused(chain: Chain, sample) -> None:
    config = exam_config(sample, best_of={"scorer": {"kind": "pixels"}, "column": "width", "most": 2})
    found = scores_of(chain, config, {"student": chain.checkpoint})
    with pytest.raises(ConfigError, match=r"evaluate\.best_of: give the scores"):
        evaluate(chain.prompts, found, config, chain.context(4))


def test_best_of_more_than_is_drawn_and_of_a_column_that_is_not_there_are_problems(sample) -> None:
    best_of = {"scorer": {"kind": "pixels"}, "column": "beauty", "most": 3}
    config = exam_config(sample, best_of=best_of)
    said = {problem.where: problem.what for problem in problems_of(config, "evaluate")}
    assert said["evaluate.best_of.most"] == "the best of 3 of 2 images a prompt"
    assert said["evaluate.best_of.column"] == "no column beauty"
