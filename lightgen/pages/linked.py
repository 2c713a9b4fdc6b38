"""The parts of a page of links: what each step left, how sizes and scores are spread, and whose links they are."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from markupsafe import Markup

from lightgen.decisions.rules import Rule
from lightgen.pages.histogram import ruled_chart
from lightgen.pages.html import render
from lightgen.stages.links import yields
from lightgen.storage.version import Version
from schemas.links import NUMBERS

HOSTS = 30
COLUMNS = ("host", "width", "height", "similarity", "aesthetic", "punsafe", "pwatermark", "language", "nsfw", "source",
           "licence", "id")  # fmt: skip


def linked_html(version: Version) -> Markup:
    """What each step left, and the hosts with most links. Memory: a count for each host."""
    hosts = Counter(host for shard in _columns(version, "host") for host in shard.tolist())
    lines = sorted(hosts.items(), key=lambda line: (-line[1], line[0]))[:HOSTS]
    return Markup(render("linked.html", steps=yields(version), hosts=len(hosts), lines=lines, links=version.rows))


def linked_charts(version: Version) -> Iterator[Markup]:
    """How each size and score is spread among the links that passed, with the lines of the rules."""
    config: dict[str, Any] = version.plan.config
    rules = [Rule.model_validate(rule) for rule in config.get("rules", ())]
    for name in NUMBERS:
        chart = ruled_chart(name, (values.astype(float) for values in _columns(version, name)), rules)
        if chart is not None:
            yield chart


def _columns(version: Version, name: str) -> Iterator[np.ndarray]:
    for shard in range(version.n_shards):
        yield version.table(shard, columns=[name])[name].to_numpy()
