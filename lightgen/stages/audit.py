"""PAIRS + SCORES of their images, of probes, of a second judge, of people -> AUDIT: what the judge is worth.

A decision: no pixel is opened. Memory: the scores of one shard, a few floats for each image, and the labels of people.
"""

import json
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import pyarrow as pa
from pydantic import Field, field_validator

from lightgen.config import QUIET, Config
from lightgen.decisions.auditing import TEXT_IGNORED, Judged, Score, Tally, bounded
from lightgen.decisions.derive import (
    Answers,
    AnyDerive,
    DeriveConfig,
    Geneval,
    Probabilities,
    Questions,
    Scenes,
    derive,
)
from lightgen.engines.build import build
from lightgen.errors import AuditRefused, ConfigError
from lightgen.evaluation.damage import PROBES
from lightgen.seeds import content_id
from lightgen.stages.probe import probe_id
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.audit import SCHEMA, Audit, Example
from schemas.ref import ArtifactRef

STAGE = Stage("audit", "audit", revision=2)
HELD_OUT, SECOND = "held-out-", "second-"
SINGLE = ("pairs", "probes", "probe_images", "human", "compare")
IMAGE_FACTS: Final = ("brightness", "contrast")  # columns of scores that a verdict should not depend on
TEXTS = ("id", "prompt_id", "caption", "winner_id", "loser_id", "winner_generator", "loser_generator")
GROUPS = ("source", "host")
ASKED, DENIED = "_asked", "_denied"
FILE = "audit.json"
Versions = Mapping[str, Version]


def _bound(of: str) -> Any:
    return Field(default=None, ge=-1, le=1, description=of, json_schema_extra=QUIET)


class AuditConfig(Config):
    """When scores are equal, and what is asked of the judge. A bound is on a figure's value, not on its interval.

    Bounds are in the name where they are set: what a version says is that the judge keeps these.
    """

    BOUNDS: ClassVar[tuple[str, ...]] = (
        "least_accuracy", "least_alpha", "least_probe", "least_polarity", "least_order", "least_agreement",
        "least_kappa", "most_bias",
    )  # fmt: skip

    tie: float = Field(default=0.02, ge=0, lt=1, description="scores that differ by no more are equal")
    verdict: DeriveConfig | None = Field(default=None, description="how answers become a score; null: by their columns")
    second_verdict: DeriveConfig | None = Field(default=None, description="the same of the second judge")
    resamples: int = Field(default=1000, ge=100, description="of the bootstrap")
    least_accuracy: float | None = _bound("share of pairs in which the judge prefers what most people prefer")
    least_alpha: float | None = _bound("agreement of people with each other, Krippendorff's")
    least_probe: dict[str, float] | None = Field(
        default=None,
        description="by probe, the share that the judge tells from the original; of same, that it does not; "
        f"of {TEXT_IGNORED}, wrong pictures that do not gain by an order to the judge",
        json_schema_extra=QUIET,
    )
    least_polarity: float | None = _bound("share of images whose question and denial are answered differently")
    least_order: float | None = _bound("share of pairs in which the order of the pictures changes nothing")
    least_agreement: float | None = _bound("share of pairs in which both judges prefer the same")
    least_kappa: float | None = _bound("the same beyond chance, Cohen's")
    most_bias: float | None = _bound("rank correlation of scores with what they should not depend on, either sign")

    @field_validator("least_probe")
    @classmethod
    def _known(cls, bounds: dict[str, float] | None) -> dict[str, float] | None:
        unknown = sorted(set(bounds or {}) - {*PROBES, TEXT_IGNORED})
        if unknown:
            raise ValueError(f"no probe is called {', '.join(unknown)}; there are {', '.join((*PROBES, TEXT_IGNORED))}")
        return bounds

    @property
    def bounds(self) -> dict[str, float]:
        """Bounds that are set, by dotted key."""
        found: dict[str, float] = {}
        for name in self.BOUNDS:
            value = getattr(self, name)
            if isinstance(value, dict):
                found |= {f"{name}.{probe}": bound for probe, bound in sorted(value.items())}
            elif value is not None:
                found[name] = value
        return found


class _Work(Config):
    """The settings with the names of the parents, in their order."""

    names: tuple[str, ...]
    tie: float
    verdict: DeriveConfig
    second_verdict: DeriveConfig | None
    resamples: int
    bounds: dict[str, float]


def audit(parents: Mapping[str, ArtifactRef], config: AuditConfig, context: Context) -> ArtifactRef:
    """Figures about the judge; refused where a bound is not kept, after the figures are sealed.

    `parents`: `pairs`; `held-out-<side>`, SCORES of each side by the judge; `probes`, its SCORES of the images
    `probe_images`; `second-<side>`, SCORES by another judge; `human`, of stage verdicts; `compare`, of stage compare.
    Shard i of each joins shard i of the pairs. Raises ConfigError, AuditRefused.
    """
    versions = {name: context.store.open(ref) for name, ref in parents.items()}
    _check(versions)
    first, second = (_of(versions, prefix) for prefix in (HELD_OUT, SECOND))
    settings = _Work(
        names=tuple(parents), tie=config.tie, verdict=config.verdict or verdict_of(next(iter(first))),
        second_verdict=(config.second_verdict or verdict_of(second[0])) if second else None,
        resamples=config.resamples, bounds=config.bounds,
    )  # fmt: skip
    plan = STAGE.plan(settings, context.seed, list(parents.values()), 1)
    needs = Needs(sort="decision", unit="pairs", total=versions["pairs"].rows)
    made = build(Work.of(plan, settings, list(parents.values()), context, f"{__name__}:open", needs), context)
    if not context.find_only:
        check_vouched(context.store.open(made))
    return made


def read_audit(version: Version) -> Audit:
    """The figures of an AUDIT version."""
    return Audit.model_validate_json(version.file(FILE).read_bytes())


def check_vouched(version: Version) -> None:
    """Raises AuditRefused where a bound is not kept, or is on what was not measured."""
    found = read_audit(version)
    lines = [
        f"{one.label} is {one.value:.3f} ({one.low:.3f} to {one.high:.3f}, n {one.n:,}), and {one.setting} asks for "
        f"{'at most' if one.setting.startswith('most_') else 'at least'} {one.bound:g}"
        for one in found.failed
    ]
    lines += [f"{one.what} was not measured, and {one.setting} asks for it: {one.fix}" for one in found.missing]
    if lines:
        listed = "\n  ".join(lines)
        raise AuditRefused(
            f"{version.ref}: nobody can vouch for this judge:\n  {listed}\nLook at `lightgen gallery {version.ref}`; "
            "then take another judge or other questions, a wider gap or tie band of pairs, or loosen the bound"
        )


def verdict_of(scores: Version) -> AnyDerive:
    """The verdict that suits the columns of scores. Raises ConfigError."""
    names = scores.table(0).schema.names
    questions = tuple(name.removesuffix(ASKED) for name in names if _question(name, names))
    if questions:
        return Probabilities(questions=questions)
    if "detections" in names:
        scorer = scores.plan.config.get("scorer")
        return Geneval() if isinstance(scorer, dict) and scorer.get("kind") == "mask2former" else Scenes()
    if "answers" in names:
        return Questions()
    marks = tuple(name for name in Answers().columns if name in names)
    if marks:
        return Answers(columns=marks)
    raise ConfigError(f"audit: {scores.ref} holds {', '.join(names)}, which says nothing of captions; give a verdict")


def _question(name: str, names: list[str]) -> bool:
    return name.endswith(ASKED) and name.removesuffix(ASKED) + DENIED in names


def _of(versions: Versions, prefix: str) -> list[Version]:
    return [version for name, version in versions.items() if name.startswith(prefix)]


def _check(versions: Versions) -> None:
    """Raises ConfigError where versions are missing, too many, or of another layout."""
    unknown = [name for name in versions if name not in SINGLE and not name.startswith((HELD_OUT, SECOND))]
    if unknown or "pairs" not in versions or not _of(versions, HELD_OUT):
        raise ConfigError(
            f"audit: give pairs and {HELD_OUT}<side>, and perhaps {SECOND}<side>, {', '.join(SINGLE[1:])}; not "
            f"{', '.join(unknown) or ', '.join(versions) or 'nothing'}"
        )
    if ("probes" in versions) != ("probe_images" in versions):
        raise ConfigError("audit: probes are the scores of probe_images; give both")
    pairs = versions["pairs"]
    for name, version in versions.items():
        if version.n_shards != pairs.n_shards:
            raise ConfigError(
                f"audit: {pairs.ref} has {pairs.n_shards} shards and {name}, {version.ref}, {version.n_shards}: they "
                "are not of the same prompts"
            )


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    settings = _Work.model_validate(work.config)
    refs = zip(settings.names, work.parents, strict=True)
    versions = {name: worker.store.open(ref) for name, ref in refs}

    def make_shard(_: int) -> ShardOutput:
        tally = Tally(settings.tie)
        for shard in range(versions["pairs"].n_shards):
            count_shard(tally, versions, shard, settings)
            worker.progress.advance(versions["pairs"].table(shard, columns=["id"]).num_rows)
        return _sealed(tally, settings, work.plan.seed)

    return make_shard


def count_shard(tally: Tally, versions: Versions, shard: int, settings: _Work) -> None:
    """Add what one shard of every version says."""
    main: dict[str, Score] = {}
    for version in _of(versions, HELD_OUT):
        main |= _scores(version, shard, settings.verdict)
        _count_images(tally, version.table(shard), main)
    second: dict[str, Score] = {}
    for version in _of(versions, SECOND):
        assert settings.second_verdict is not None, "see `audit`"
        second |= _scores(version, shard, settings.second_verdict)
    votes = _votes(versions["human"], shard) if "human" in versions else {}
    orders = _orders(versions["compare"], shard) if "compare" in versions else {}
    pairs = versions["pairs"].table(shard)
    rows = pairs.to_pylist()
    for row in rows:
        sides = (row["winner_id"], row["loser_id"])
        margin = row["margin"] if row.get("margin") is not None else row["winner_score"] - row["loser_score"]
        tally.add(
            Judged(
                {name: row[name] for name in TEXTS}, shard, margin, (main.get(sides[0]), main.get(sides[1])),
                (second.get(sides[0]), second.get(sides[1])), votes.get(row["id"], {}), orders.get(row["id"]),
            )
        )  # fmt: skip
    _count_groups(tally, rows, versions["pairs"].rejects(shard))
    if "probes" in versions:
        _count_probes(tally, rows, main, versions, shard, settings.verdict)


def _scores(version: Version, shard: int, verdict: AnyDerive) -> dict[str, Score]:
    """The score of every image of a shard, by id."""
    raw = version.table(shard)
    derived = derive(raw, verdict)
    value = derived["mean" if "mean" in derived.column_names else "share"]
    return dict(zip(raw["id"].to_pylist(), value.to_pylist(), strict=True))


def _count_images(tally: Tally, raw: pa.Table, scores: Mapping[str, Score]) -> None:
    """Whether each question and its denial agree; and what scores should not depend on."""
    names = raw.column_names
    for name in names:
        if _question(name, names):
            question = name.removesuffix(ASKED)
            both = zip(raw[name].to_pylist(), raw[question + DENIED].to_pylist(), strict=True)
            agree = ((asked >= 0.5) != (denied >= 0.5) for asked, denied in both if None not in (asked, denied))
            tally.polarity.setdefault(question, Counter()).update(agree)
    given = [scores[id] for id in raw["id"].to_pylist()]
    facts = {"caption length": [float(len(caption)) for caption in raw["caption"].to_pylist()]}
    facts |= {name: raw[name].to_pylist() for name in IMAGE_FACTS if name in names}
    known = [
        at for at, score in enumerate(given) if score is not None and all(v[at] is not None for v in facts.values())
    ]
    tally.scores.extend(score for at in known if (score := given[at]) is not None)
    for name, values in facts.items():
        tally.facts.setdefault(name, array("d")).extend(float(values[at]) for at in known)


def _count_groups(tally: Tally, rows: list[dict[str, Any]], rejects: pa.Table) -> None:
    """How many candidates became pairs, in all, by source and by host."""
    refused = [json.loads(text) for text in rejects["row"].to_pylist()]
    for into, those in ((tally.kept, rows), (tally.refused, refused)):
        into.setdefault("", Counter())[""] += len(those)
        for name in GROUPS:
            named = Counter(str(row[name]) for row in those if row.get(name))
            into.setdefault(name, Counter()).update(named)


def _count_probes(
    tally: Tally, rows: list[dict[str, Any]], main: Mapping[str, Score], versions: Versions, shard: int,
    verdict: AnyDerive,
) -> None:  # fmt: skip
    """Each probe against the image that it was made of."""
    scores = _scores(versions["probes"], shard, verdict)
    images = versions["probe_images"].table(shard, columns=["id", "generator", "prompt_id"]).to_pylist()
    there = {row["generator"] for row in images}
    names = [name for name in PROBES if name in there]
    probed = {row["prompt_id"] for row in images}
    seen: set[str] = set()
    for row in rows:
        if row["prompt_id"] not in probed:
            continue
        ids = {name: probe_id(name, row["winner_id"], row["caption"]) for name in names}
        found = {name: scores[id] for name, id in ids.items() if id in scores and id not in seen}
        seen |= set(ids.values())
        for name, score in found.items():
            tally.probed(name, main.get(row["winner_id"]), score)
        if "shuffled_caption" in found and "text_in_image" in found:
            tally.ordered(found["shuffled_caption"], found["text_in_image"])


def _votes(human: Version, shard: int) -> dict[str, dict[str, float]]:
    """By pair, what each rater says: 1 the winner, 0 the loser, 0.5 neither."""
    rows = human.table(shard, columns=["pair_id", "side", "raters"]).to_pylist()
    return {row["pair_id"]: json.loads(row["raters"]) for row in rows if row["side"] == "winner"}


def _orders(compare: Version, shard: int) -> dict[str, tuple[float, float]]:
    """By pair, how likely the winner is the better one, shown first and shown second."""
    rows = compare.table(shard, columns=["id", "winner_first", "winner_second"]).to_pylist()
    return {
        row["id"]: (row["winner_first"], row["winner_second"])
        for row in rows
        if row["winner_first"] is not None and row["winner_second"] is not None
    }


def _sealed(tally: Tally, settings: _Work, seed: int) -> ShardOutput:
    figures, missing = bounded(tally.figures(seed, settings.resamples), settings.bounds)
    examples: list[Example] = [one for shown in tally.examples.values() for one in shown]
    second = settings.second_verdict
    found = Audit(
        pairs=tally.pairs, tie=settings.tie, judge=settings.verdict.kind, second=second and second.kind,
        raters=sorted(tally.raters), figures=figures, missing=missing, examples=examples,
    )  # fmt: skip
    rows = [
        {"id": content_id("audit", one.name, one.group), **{name: getattr(one, name) for name in SCHEMA.names[1:]}}
        for one in figures
    ]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    files = {FILE: found.model_dump_json(indent=1).encode()}
    return ShardOutput(table=table, schema=SCHEMA, rows_in=len(rows), files=files)
