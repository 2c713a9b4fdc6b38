"""The part of a page that says what choosing captions was worth: novelty, coverage and how sure the figures are."""

import json
from typing import Any

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from lightgen.pages.charts import Curve
from lightgen.pages.html import render
from lightgen.pages.sheet import Chart
from lightgen.stages.select import told_recall
from lightgen.storage.version import Version

DRAWN_POINTS = 99  # of a curve over prompts; of more points the chart would cut the highest
SETS = {"captions": "all captions", "chosen": "chosen", "random": "as many at random"}


def summary_of(version: Version) -> dict[str, Any]:
    """What `select` said beside a version; empty where it said nothing. Earlier revisions said less."""
    if "summary.json" not in version.file_names:
        return {}
    return json.loads(version.file("summary.json").read_bytes())


def diversity_facts(summary: dict[str, Any], novelty: Float[np.ndarray, " n"]) -> dict[str, str]:
    """Vendi scores, how many captions that have nothing in common would be as diverse, and what was missed."""
    named = {"captions": "of all captions", "chosen": "of the chosen", "random": "of as many at random"}
    facts = {f"Vendi {words}": f"{summary[f'vendi_{name}']:,.1f}" for name, words in named.items() if summary}
    for name, words in (("near_recall", "near-duplicates"), ("semantic_recall", "equal meanings")):
        if name in summary:
            facts[words] = told_recall(summary[name])
    if np.isfinite(novelty).any() and len(novelty) > 1:
        facts["novelty of the last"] = f"{float(novelty[-1]):.3f}"
    return facts


def novelty_charts(summary: dict[str, Any], novelty: Float[np.ndarray, " n"]) -> list[Chart]:
    """Novelty of samples of one size, where what lies higher is more diverse; and `novelty` of the chosen by rank."""
    found, charts = summary.get("novelty", {}), list[Chart]()
    curves = [Curve(SETS[name], points, f"c{tone}") for tone, (name, points) in enumerate(found.items()) if points]
    if curves:
        charts.append(Chart("novelty in samples", curves, hint=": distance to those before"))
    if np.isfinite(novelty).any() and len(novelty) > 1:
        places = np.unique(np.linspace(0, len(novelty) - 1, DRAWN_POINTS).astype(int))
        curve = Curve("novelty", [(int(place), float(novelty[place])) for place in places])
        charts.append(Chart("novelty by rank", [curve], hint=": distance to all chosen before"))
    return charts


def novelty_by_rank(version: Version) -> Float[np.ndarray, " n"]:
    """How new each prompt was when it was chosen, in that order; NaN where the choice does not say."""
    return version.table(columns=["rank", "novelty"]).sort_by("rank")["novelty"].to_numpy()


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
