"""Which learning rate DPO wants: one alignment for each, side by side, judged on captions nobody trained on.

The paper's 1e-8 may stand for rates 2,000 times apart (model_facts 3.6), and implicit accuracy need not rise with the
pictures. Every alignment is a version of its own, so a sweep that is stopped, or widened, goes on.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightgen.encoders.text import text_of_identity
from lightgen.errors import ConfigError
from lightgen.generators.restore import checkpoint_config
from lightgen.stages.align import AlignConfig, align
from lightgen.stages.encode_pairs import EncodePairsConfig, encode_pairs
from lightgen.stages.evaluate import EvaluateConfig, evaluate
from lightgen.stages.generate import generate
from lightgen.stages.reference import reference
from lightgen.stages.score import ScoreConfig, score
from lightgen.stages.texts import TextsConfig, texts
from lightgen.storage.store import Store
from lightgen.work import Context
from schemas.ref import ArtifactRef
from schemas.report import Interval, Report

HEALTH = ("loss", "accuracy", "margin_p10", "margin_p50", "margin_p90", "winner_drift", "loser_drift")


@dataclass(frozen=True)
class Tried:
    """One rate: where its student is, how its run ended, and what judges say."""

    lr: float
    checkpoint: ArtifactRef
    health: dict[str, float]
    overall: Interval | None = None
    gain: Interval | None = None  # over the start, paired


@dataclass(frozen=True)
class Exam:
    """What the students are judged on."""

    prompts: ArtifactRef
    config: EvaluateConfig


def sweep(
    checkpoint: ArtifactRef,
    pairs: ArtifactRef,
    config: AlignConfig,
    rates: Sequence[float],
    context: Context,
    exam: Exam | None = None,
) -> list[Tried]:
    """One alignment a rate, lowest first; with `exam` they are judged, after the start itself (rate 0), paired with it.

    Raises ConfigError for no rate, or one that is not positive.
    """
    if not rates or min(rates) <= 0:
        raise ConfigError(f"sweep: rates must be positive numbers, not {list(rates)}")
    images = [ref for ref in context.store.open(pairs).parents if ref.kind == "images"]
    encoded = encode_pairs(pairs, checkpoint, images, EncodePairsConfig(), context)
    encoder = text_of_identity(checkpoint_config(context.store.open(checkpoint)).encoders.text, context.store)
    words = texts(pairs, TextsConfig(encoder=encoder), context)
    further = [reference(checkpoint, encoded, words, config.reference, context)] if config.reference else []
    further += [context.store.open(pairs).ref] if config.pair_weights == "margin" else []
    tried = []
    for rate in sorted(set(rates)):
        optimizer = config.loop.optimizer.model_copy(update={"lr": rate})
        loop = config.loop.model_copy(update={"optimizer": optimizer})
        aligned = align(checkpoint, encoded, words, config.model_copy(update={"loop": loop}), context, *further)
        tried.append(Tried(rate, aligned, _last(context.store, aligned)))
    return tried if exam is None else _judged(checkpoint, tried, exam, context)


def _last(store: Store, checkpoint: ArtifactRef) -> dict[str, float]:
    """The last logged figures of a run."""
    rows = [json.loads(line) for line in store.open(checkpoint).file("log.jsonl").read_text().splitlines()]
    logged = [row for row in rows if "loss" in row]
    return {name: logged[-1][name] for name in HEALTH if logged and name in logged[-1]}


def _judged(start: ArtifactRef, tried: list[Tried], exam: Exam, context: Context) -> list[Tried]:
    """With the overall score of each; the first of the result is the start itself, at rate 0."""
    all_of_them = [Tried(0.0, start, {}), *tried]
    scorer = ScoreConfig(scorer=exam.config.detector)
    drawing = exam.config.model_copy(update={"untrained": False, "models": {}}).generators(["student"])["student"]
    scores = {
        f"{one.lr:g}": score(generate(exam.prompts, drawing, context, one.checkpoint), scorer, context)
        for one in all_of_them
    }
    ref = evaluate(exam.prompts, scores, exam.config, context)
    report = Report.model_validate_json(context.store.open(ref).file("report.json").read_text())
    overall = {model.name: model.overall for model in report.models}
    gains = {difference.name: difference.overall for difference in report.differences}
    return [replace(one, overall=overall[f"{one.lr:g}"], gain=gains.get(f"{one.lr:g}")) for one in all_of_them]
