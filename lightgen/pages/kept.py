"""The page of images that passed a filter."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from markupsafe import Markup

from lightgen.decisions.derive import DeriveConfig
from lightgen.decisions.rules import Rule
from lightgen.pages import rows
from lightgen.pages.histogram import ruled_chart
from lightgen.pages.shown import SAME, Shown, Tile, Twin, page_picture, size_of, tile_of
from lightgen.stages.filter import FilterConfig, score_columns
from lightgen.storage.store import Store
from lightgen.storage.version import Version

TWINS = 24  # refused images on a page, with what they are like
ID = re.compile(r"\b[0-9a-f]{32}\b")


def kept(version: Version, store: Store, limit: int) -> Shown:
    """Images that passed, what each step took, the scores that rules read, and refused images beside kept ones."""
    tiles = [tile_of(row, data, size_of(row)) for row, data in rows.kept(version, store, limit)]
    steps = json.loads(version.file("yield.json").read_bytes())
    facts = {f"after {one['step']}": f"{one['after']:,} of {one['before']:,}" for one in steps}
    charts = list(_rule_charts(version, store))
    twins = list(_twins(version, store))
    note = f"Images that passed. {SAME}"
    return Shown(note=note, tiles=tiles, facts=facts, title="Scores and rules", charts=charts, twins=twins)


def _rule_charts(version: Version, store: Store) -> Iterator[Markup]:
    """The distribution of each score that a rule reads, with its line; scores are read shard by shard."""
    config: dict[str, Any] = version.plan.config
    rules = [Rule.model_validate(rule) for rule in config.get("rules", ())]
    for name in dict.fromkeys(rule.column for rule in rules):
        chart = ruled_chart(name, _column(version, store, name), rules)
        if chart is not None:
            yield chart


def _column(version: Version, store: Store, name: str) -> Iterator[np.ndarray]:
    """A column of the scores that a filter read, in parts."""
    config: dict[str, Any] = version.plan.config
    images = store.open(version.parent("images"))
    scores = [store.open(ref) for ref in version.parents if ref.kind == "scores"]
    named = dict(zip(config["names"], scores, strict=True))
    derive = FilterConfig.model_validate({"derive": config.get("derive", {})}).derive
    for shard in range(images.n_shards):
        yield _numbers(images, named, shard, derive, name)


def _numbers(
    images: Version, named: dict[str, Version], shard: int, derive: dict[str, DeriveConfig], name: str
) -> np.ndarray:
    return score_columns(images, named, shard, derive)[name].to_numpy().astype(float)


def _twins(version: Version, store: Store) -> Iterator[Twin]:
    """Refused images, each beside the one that its detail names."""
    images = store.open(version.parent("images"))
    refused = rows.rejected(version, TWINS)
    named = {row["id"]: next(iter(ID.findall(row["detail"])), "") for row in refused}
    found = rows.images_of(images, {*named, *filter(None, named.values())})
    for row in refused:
        other = named[row["id"]]
        keeper = Tile(page_picture(found[other]), "kept", other) if other in found else None
        if row["id"] in found:
            tile = Tile(page_picture(found[row["id"]]), row["caption"], row["id"])
            yield Twin(row["reason"], row["detail"], tile, keeper)
