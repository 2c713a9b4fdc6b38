"""A stage that fails under a real server: the run fails, says why and what to do, whatever the reason holds."""

import json

import pytest

from flows.build_distill_set import build_distill_set
from lightgen.errors import ConfigError
from tests.flows.conftest import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ODD = {
    "surrogate": ("caf\udce9", r"caf\udce9"),
    "escape sequence": ("\x1b[31mred", r"\x1b[31mred"),
    "NUL": ("a\0b", r"a\x00b"),
    "long": ("x" * 10_000, f"it has {'x' * 60}..."),
}
LONG_SETTING = ("text", "x" * 10_000, "characters in all")


def corpus_of(field, folder, asked):
    """A recipe's corpora: one file, whose only field or the one asked for no message should hold as it is."""
    path = folder / "odd.jsonl"
    path.write_text(json.dumps({field: "a red cat"}) + "\n")  # as ASCII: JSON spells any character
    return {
        "source.corpora": [{"kind": "jsonl", "path": str(path), "field": asked, "source": "odd", "licence": "none"}]
    }


@pytest.mark.parametrize(
    ("field", "asked", "shown"),
    [*((field, "caption", shown) for field, shown in ODD.values()), LONG_SETTING],
    ids=[*ODD, "long setting"],
)
def test_text_of_a_file_neither_crashes_a_run_nor_hides_why_it_failed(served, tmp_path, field, asked, shown):
    flow_run, state = served.run_here(
        build_distill_set, recipe=TINY, overrides=corpus_of(field, tmp_path, asked), store=str(tmp_path / "store")
    )
    error = state.result(raise_on_failure=False)
    assert isinstance(error, ConfigError)
    recorded = served.state(flow_run)
    assert (recorded["type"], shown in recorded["message"]) == ("FAILED", True)
    advice = served.artifacts(flow_run)["what-to-do"]["data"]
    assert shown in advice
    assert "What to do:" in advice
    (told,) = [line["message"] for line in served.lines(flow_run) if "What to do:" in line["message"]]
    assert shown in told
    assert not [line for line in served.lines(flow_run) if "Traceback" in line["message"]]
