"""The part of a page that says what choosing captions was worth: novelty, coverage and how sure the figures are."""

import json
from typing import Any

from markupsafe import Markup

from lightgen.pages.charts import Curve, line_chart
from lightgen.pages.html import render
from lightgen.stages.select import told_recall
from lightgen.storage.version import Version

SETS = {"captions": "all captions", "chosen": "chosen", "random": "as many at random"}


def summary_of(version: Version) -> dict[str, Any]:
    """What `select` said beside a version; empty where it said nothing. Earlier revisions said less."""
    if "summary.json" not in version.file_names:
        return {}
    return json.loads(version.file("summary.json").read_bytes())


def diversity_facts(summary: dict[str, Any]) -> dict[str, str]:
    """Vendi scores, how many captions that have nothing in common would be as diverse, and what was missed."""
    named = {"captions": "of all captions", "chosen": "of the chosen", "random": "of as many at random"}
    facts = {f"Vendi {words}": f"{summary[f'vendi_{name}']:,.1f}" for name, words in named.items() if summary}
    for name, words in (("near_recall", "near-duplicates"), ("semantic_recall", "equal meanings")):
        if name in summary:
            facts[words] = told_recall(summary[name])
    return facts


def novelty_charts(summary: dict[str, Any]) -> list[Markup]:
    """Novelty curves of samples of one size: what lies higher is more diverse."""
    found = summary.get("novelty", {})
    curves = [Curve(SETS[name], points, f"c{tone}") for tone, (name, points) in enumerate(found.items()) if points]
    return [line_chart("novelty in samples: distance of each caption to those before", curves)] if curves else []


def coverage_html(summary: dict[str, Any]) -> list[Markup]:
    """Which concepts are spoken of, before and after."""
    found = summary.get("coverage")
    if not found:
        return []
    lines = [
        {"kind": kind, "listed": line["listed"], "sets": [found[name][kind] for name in SETS]}
        for kind, line in found["captions"].items()
    ]
    return [Markup(render("selected.html", lines=lines))]
