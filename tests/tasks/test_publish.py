"""Tables and pages of a stage speak of what it made: rows, training or scores; and nothing in them acts as markup."""

import re
from typing import get_args

import pytest

from lightgen.corpora.scenes import ScenesCorpus
from lightgen.evaluation.published_rows import published_tables
from lightgen.stages.select import SelectConfig, select
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.store import open_or_create
from lightgen.work import Context
from schemas.ref import Kind
from schemas.report import Interval, ModelScores, Published, Report
from tasks.publish import NOUNS, _harmless, figures, page
from tests.checkpoint_version import SPEED, checkpoint, log_of, report
from tests.worked_version import build, plan_of, with_reject

SURE, HALF = Interval(mean=1.0, low=0.9, high=1.0), Interval(mean=0.5, low=0.25, high=0.75)
EVIL = "a|b](http://x) <img src=x> *b* `c`"


@pytest.fixture
def store(tmp_path):
    return open_or_create(str(tmp_path / "store"))


def told(version) -> dict[str, str]:
    return {line["what"]: line["value"] for line in figures(version, worked=True)}


def judged(name: str = "student", finding: str = "no change") -> Report:
    models = [
        ModelScores(name="teacher", checkpoint=None, images=4, tasks={"colors": SURE, "counting": SURE}, overall=SURE),
        ModelScores(name=name, checkpoint="1" * 32, images=4, tasks={"colors": HALF}, overall=HALF),
    ]
    return Report(
        prompts={"counting": 2, "colors": 3}, samples_per_prompt=2, verdict="scenes", confidence=0.95, models=models,
        differences=[], findings=[finding],
    )  # fmt: skip


def test_every_kind_has_a_word_for_its_rows():
    assert set(NOUNS) == set(get_args(Kind))


def test_a_checkpoint_is_told_by_steps_tensors_and_loss_and_not_by_rows(store):
    version = checkpoint(store, log_of(60), SPEED)
    lines = told(version)
    assert (lines["steps"], lines["tensors"], lines["last loss"]) == ("60", "1", "0.1667")
    assert not [what for what in lines if "rows" in what]
    text = page("pretrain-32px", version, worked=True, store=store)
    assert text.startswith("## pretrain-32px: a student after 60 steps, 1 tensors\n")
    assert text.count("![](data:image/webp;base64,") == text.count("![](data:image/svg+xml;base64,") == 1
    assert "| GPU-hours | 2.5 |" in text
    assert "rows" not in text


def test_a_checkpoint_without_speed_has_a_page_too(store):
    text = page("pretrain-32px", checkpoint(store, log_of(60)), worked=False, store=store)
    assert "GPU-hours" not in text
    assert "| last loss | 0.1667 |" in text
    assert "Found sealed; nothing was computed" in text


def test_a_report_shows_scores_with_intervals_and_findings(store):
    version = report(store, judged())
    text = page("evaluate", version, worked=True, store=store)
    assert "| model | overall | counting | colours |" in text
    assert "| student | 0.50<br>0.25\u2060–\u20600.75 | - | 0.50<br>0.25\u2060–\u20600.75 |" in text
    assert "The student, student, gets 50% of the test right overall; for comparison: teacher 100%." in text
    assert "no change" in text
    lines = told(version)
    assert (lines["student, overall"], lines["test prompts"], lines["verdict"]) == ("0.50 (0.25–0.75)", "5", "scenes")


def test_what_others_printed_stands_below_the_scores_and_in_no_figure(store):
    tables = published_tables("lightgen", ("Table 2",))
    version = report(store, judged(), Published(tables=tables))
    measured, _, printed = page("evaluate", version, worked=True, store=store).partition("Published, not run: Table 2")
    assert "Llamagen" not in measured
    assert "| Llamagen | 0.10 |" in printed
    assert len(re.findall(r"^\| (?!model|---)", printed, re.MULTILINE)) == len(tables[0].rows) == 8
    assert "Llamagen" not in str(told(version))
    assert "Published" not in page("evaluate", report(store, judged()), worked=True, store=store)


def test_data_is_told_by_rows_and_rejects(store):
    version = store.open(build(store, plan_of(kind="sketches"), with_reject, max_reject_fraction=0.5))
    lines = told(version)
    assert (lines["rows in"], lines["rows out"], lines["rejected"], lines["  because too_long"]) == (
        "15",
        "12",
        "3",
        "3",
    )
    assert page("source", version, worked=True, store=store).startswith("## source: 12 signed captions, 3 rejected\n")


def test_captions_and_prompts_show_what_is_told_of_them_and_some_of_them(store, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTGEN_CACHE", str(tmp_path / "cache"))
    given = source(SourceConfig(corpora=[ScenesCorpus(split="train", count=60)]), Context(store))
    chosen = select(given, SelectConfig(near_duplicates=None), Context(store))
    text = page("source", store.open(given), worked=True, store=store)
    assert "| beyond 77 tokens | 0.00% of captions, 0.0% of clauses |" in text
    assert "image/svg" not in text
    first = store.open(given).table(columns=["caption"])["caption"].to_pylist()
    lines = text.partition("| some of them |\n| --- |\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) == 18
    assert {line.strip("| ") for line in lines} <= set(first)
    text = page("select", store.open(chosen), worked=True, store=store)
    assert text.count("![](data:image/svg+xml;base64,") == 1
    assert re.search(r"\| Vendi of the chosen \| [\d.]+ \|", text)
    again = page("select", store.open(chosen), worked=False, store=store)
    assert "some of them" in again
    assert "Vendi" not in again, "every shard would be read each time that a sealed version is found"


def test_names_and_findings_cannot_become_markup(store):
    text = page("evaluate", report(store, judged(EVIL, EVIL)), worked=True, store=store)
    for mark in ("](http", "<img", "*b*", "`c`", "a|b"):
        assert mark not in text
    assert text.count("|") == 5 * 4, "four lines of four cells: the name opens no cell of its own"


@pytest.mark.parametrize("text", ["_a_ b", "__a__", "#a", "[a](b)", "<b>", "a|b", "~~a~~", "`a`", "\\a", "!a"])
def test_no_mark_of_markdown_is_left(text):
    assert not set(_harmless(text)) & set("#[]<>|~`\\!*")
    assert "_" not in _harmless(text)


def test_words_and_figures_are_left_alone():
    told = "32_px: 0.50 (0.25–0.75), +0.012; 95%"
    assert _harmless(told) == told
