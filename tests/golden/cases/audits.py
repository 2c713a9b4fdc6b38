"""Stages that ask what a judge is worth: probes, comparisons, votes of people, and the audit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lightgen.errors import AuditRefused
from lightgen.evaluation.damage import PROBES
from lightgen.stages import audit, compare, probe, verdicts
from lightgen.storage.pixels import decode_image
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store
from lightgen.work import Context
from schemas import pairs as pairs_schema
from schemas.ref import ArtifactRef
from tests.golden.compare import plain, png
from tests.golden.given import CAPTIONS, INPUTS, context, described
from tests.golden.subject import Output, Subject, Tolerance
from tests.lightgen.sealed import _shard, image, images, scores, seal
from tests.lightgen.stages.audited import MATCH, World
from tests.servers.chat import ChatServer

NAMES = ("scene-0", "scene-1", "scene-2", "wide", "flat")
LABELS = (
    "pair,side,rater\n{0},winner,ada\n{0},loser,eve\n{1},tie,ada\n{1},tie,ada\n{2},both,ada\n{3},winner,eve\n"
    "{4},loser,eve\n{4},loser,ada\nffffffff,winner,ada\n"
)
SERVED = {"kind": "server", "url": "http://127.0.0.1:1/v1", "model": "arithmetic", "concurrency": 1}


def subjects() -> list[Subject]:
    """One a stage."""
    some = {"max_reject_fraction": 1.0}
    probes: dict[str, dict[str, Any]] = {
        "all": some, "few": some | {"probes": ["blurred", "same"], "per_probe": 2},
    }  # fmt: skip
    asked: dict[str, dict[str, Any]] = {"all": {"model": SERVED}, "some": {"model": SERVED, "count": 2}}
    bounds: dict[str, Any] = {name: 0.0 for name in audit.AuditConfig.BOUNDS if name.startswith("least_")}
    bounds |= {"least_probe": {"same": 0.5}, "most_bias": 1.0, "least_kappa": -1.0, "least_alpha": -1.0}
    match = {"kind": "probabilities", "questions": ["match"], "mean": "geometric"}
    audits: dict[str, dict[str, Any]] = {
        "plain": {}, "bounds": bounds | {"resamples": 150},
        "other scores": {"tie": 0.3, "verdict": match, "second_verdict": match},
    }  # fmt: skip
    return [
        Subject("stage probe", (probe,), probe.ProbeConfig, probes, _probe, Tolerance(levels=2)),
        Subject("stage compare", (compare,), compare.CompareConfig, asked, _compare, Tolerance(1e-2, 1e-2)),
        Subject("stage verdicts", (verdicts,), verdicts.VerdictsConfig,
                {"plain": {"path": "votes.csv", "max_reject_fraction": 1.0}}, _verdicts),
        Subject("stage audit", (audit,), audit.AuditConfig, audits, _audit),
    ]  # fmt: skip


def _world(store: Store) -> World:
    """Pairs of the committed pictures in two shards: each against the next one."""
    rows, drawn, right = [], [], set()
    for place, name in enumerate(NAMES):
        facts = {"caption": CAPTIONS[name], "prompt_id": f"{place:032x}"}
        good, bad = (
            image(f"{side} {place}", (INPUTS / f"{shown}.png").read_bytes(), **facts)
            for side, shown in (("a", name), ("b", NAMES[place - 1]))
        )
        drawn.append([good, bad])
        right.add(good[0]["id"])
        rows.append({
            "id": f"{place:08d}" * 4, **facts, "winner_id": good[0]["id"], "loser_id": bad[0]["id"],
            "winner_generator": "links", "loser_generator": "student", "winner_score": 0.9,
            "loser_score": 0.1 * place, "margin": 0.9 - 0.1 * place, "weight": 1.0, "host": "b.org", "source": "laion",
        })  # fmt: skip
    kept = images(store, [], [[one for both in part for one in both] for part in (drawn[:3], drawn[3:])])
    shards = [_shard(part, pairs_schema.SCHEMA) for part in (rows[:3], rows[3:])]
    lost = Reject("lost", "tie", "", {"host": "a.org", "source": "laion"})
    shards[0] = ShardOutput(shards[0].table, 4, pairs_schema.SCHEMA, rejects=[lost])
    pairs = seal(store, "pairs", shards, [kept], stage="pair")
    return World(store, pairs, kept, rows, frozenset(right))


def _probe(config: probe.ProbeConfig, folder: Path) -> Output:
    """Rows, and the pictures; their bytes may differ between builds of zlib and of FreeType."""
    works = context(folder)
    given = _world(works.store)
    made = probe.probe(given.pairs, [given.drawn], config, works)
    version = works.store.open(made)
    shown = {}
    for row in version.table().to_pylist():
        pixels = decode_image(version.member(row["id"], "png"))
        assert isinstance(pixels, np.ndarray)
        if row["index"] < len(PROBES):
            shown[row["id"]] = png(pixels)
    return described(works.store, made, ["image_sha256"]) | {"pictures": shown}


def _compare(config: compare.CompareConfig, folder: Path) -> Output:
    works = context(folder)
    given = _world(works.store)
    return plain(described(works.store, _compared(config, given, works)))


def _compared(config: compare.CompareConfig, given: World, works: Context) -> ArtifactRef:
    """The server says that the first is the better one by as much as it is brighter."""
    with ChatServer(surely=lambda _, seen: 0.5 + (seen[0].mean() - seen[-1].mean()) / 510) as server:
        there = config.model_copy(update={"model": config.model.model_copy(update={"url": server.url})})
        return compare.compare(given.pairs, [given.drawn], there, works)


def _verdicts(config: verdicts.VerdictsConfig, folder: Path) -> Output:
    works = context(folder)
    given = _world(works.store)
    return described(works.store, _voted(config, given, works, folder))


def _voted(config: verdicts.VerdictsConfig, given: World, works: Context, folder: Path) -> ArtifactRef:
    path = folder / config.path
    path.write_text(LABELS.format(*(row["id"] for row in given.rows)), encoding="utf-8")
    return verdicts.verdicts(given.pairs, config.model_copy(update={"path": str(path)}), works)


def _audit(config: audit.AuditConfig, folder: Path) -> Output:
    works = context(folder)
    given = _world(works.store)
    shown = probe.probe(given.pairs, [given.drawn], probe.ProbeConfig(max_reject_fraction=1.0), works)
    ids = works.store.open(shown).table()["id"].to_pylist()
    said = {id: {"match_asked": place % 5 / 4, "match_denied": 0.5} for place, id in enumerate(ids)}
    answers = {id: 0.5 + 0.4 * (yes > 0.5) - place / 30 for place, (id, yes) in enumerate(given.truth().items())}
    labels = verdicts.VerdictsConfig(path="votes.csv", max_reject_fraction=1.0)
    parents = {
        "pairs": given.pairs, "held-out-links": given.judged(answers), "probe_images": shown,
        "probes": scores(works.store, shown, said, MATCH), "second-links": given.judged(given.flipped(0.3, 2)),
        "human": _voted(labels, given, works, folder),
        "compare": _compared(compare.CompareConfig.model_validate({"model": SERVED}), given, works),
    }  # fmt: skip
    refused = ""
    try:
        made = audit.audit(parents, config, works)
    except AuditRefused as error:
        refused = str(error)
        made = audit.audit(parents, config, replace(works, find_only=True))
    return described(works.store, made) | {"refused": refused.replace(str(made), "AUDIT")}
