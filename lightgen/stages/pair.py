"""IMAGES + CHECKPOINT -> PAIRS: the teacher's image against the student's own, kept where a judge tells them apart.

Winner = teacher or real image, loser = student (model_facts section 0 row 6, 3.1). The winner's bytes pass through
untouched and the loser is stored without loss: a codec must not become the preference (model_facts 3.4).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

import lightgen.model
import lightgen.preferences
import lightgen.scenes
from lightgen.model.restore import Weights
from lightgen.model.sampling import SampleConfig
from lightgen.preferences.judge import Judge, JudgeConfig, load_judge
from lightgen.preferences.qwen_vl import QwenVlConfig, judge_identity
from lightgen.preferences.verdict import Verdict
from lightgen.progress import SILENT, Progress
from lightgen.seeds import content_id, derive_seed
from lightgen.settings import Device, pick_device
from lightgen.stages.sampling import Sampler
from lightgen.storage.build import Reject, ShardOutput, build, finished, make_plan, rows_done
from lightgen.storage.pixels import BadImage, decode_image, encode_image
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.canonical import canonical_json
from schemas.pairs import SCHEMA
from schemas.ref import ArtifactRef

REASONS = {(True, True): "loser_right", (False, True): "winner_wrong", (False, False): "both_wrong"}


class PairConfig(BaseModel):
    """Who draws the losers, how many, and who judges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: JudgeConfig
    sample: SampleConfig = SampleConfig()
    weights: Weights = "ema"
    losers_per_prompt: int = Field(default=1, ge=1, description="samples of the student for each image of the teacher")
    batch_size: int = Field(default=64, gt=0, description="images of the teacher worked on together")
    max_reject_fraction: float = Field(default=1.0, gt=0, le=1, description="a good student leaves few telling pairs")
    device: Device = "auto"

    def content(self) -> "PairConfig":
        """Without where it runs and whether it is accepted; the batch stays, as it moves the last bits of a sample."""
        return self.model_copy(update={"max_reject_fraction": 1.0, "device": "auto"})


@dataclass(frozen=True)
class Candidate:
    """A pair before judgement."""

    row: dict[str, Any]
    blobs: dict[str, bytes]


def pair(
    images: ArtifactRef,
    checkpoint: ArtifactRef,
    config: PairConfig,
    store: Store,
    *,
    seed: int,
    progress: Progress = SILENT,
) -> ArtifactRef:
    """Sealed pairs of `images` (the teacher's, of held-out captions); output shard i holds pairs of input shard i."""
    source, device = store.open(images), pick_device(config.device)
    modules = [
        lightgen.model,
        lightgen.preferences,
        lightgen.scenes,
        "lightgen.stages.sampling",
        "lightgen.stages.pair",
    ]
    parents, models = [images, checkpoint], [_judge_identity(config, device)]
    plan = make_plan("pairs", "pair", modules, config.content(), seed, parents, source.n_shards, models=models)
    if done := finished(store, plan):
        return done
    sampler = Sampler.from_checkpoint(store.open(checkpoint), store, device, config.weights)
    judge = load_judge(config.judge, device)
    progress.start("pair", source.rows * config.losers_per_prompt, "pairs", rows_done(store, plan))

    def make_shard(shard: int) -> ShardOutput:
        return pair_shard(source, shard, sampler, judge, config, seed, progress)

    ref = build(store, plan, make_shard, SCHEMA, max_reject_fraction=config.max_reject_fraction)
    progress.finish()
    return ref


def _judge_identity(config: PairConfig, device: str) -> dict[str, Any]:
    """What names the judge; a large model is not loaded for that."""
    if isinstance(config.judge, QwenVlConfig):
        return judge_identity(config.judge)
    return load_judge(config.judge, device).identity()


def pair_shard(
    source: Version,
    shard: int,
    sampler: Sampler,
    judge: Judge,
    config: PairConfig,
    seed: int,
    progress: Progress = SILENT,
) -> ShardOutput:
    """Draw, judge and sort one shard."""
    kept: list[tuple[dict[str, Any], dict[str, bytes]]] = []
    rejects: list[Reject] = []
    for rows in _batches(source, shard, config.batch_size):
        readable = [(row, data, decode_image(data)) for row, data in rows]
        for row, _, pixels in readable:
            if isinstance(pixels, BadImage):
                rejects += _unreadable(row, pixels, config.losers_per_prompt, seed)
        good = [(row, data, pixels) for row, data, pixels in readable if not isinstance(pixels, BadImage)]
        for candidate, winner, loser in _judged(good, sampler, judge, config, seed):
            row = {**candidate.row, **verdict_columns(winner, loser)}
            reason = reject_reason(winner, loser)
            if reason is None:
                kept.append((row, {**candidate.blobs, "json": canonical_json(row)}))
            else:
                detail = f"winner: {winner.reason or 'passed'}; loser: {loser.reason or 'passed'}"
                rejects.append(Reject(row["id"], reason, detail, row))
        progress.advance(len(rows) * config.losers_per_prompt, f"{len(kept)} kept")
    table = pa.Table.from_pylist([row for row, _ in kept], schema=SCHEMA)
    blobs = [members for _, members in kept]
    return ShardOutput(table=table, rows_in=len(kept) + len(rejects), rejects=rejects, blobs=blobs)


def reject_reason(winner: Verdict, loser: Verdict) -> str | None:
    """Why a pair teaches nothing; None keeps it. An image without a verdict is not taken for a bad one."""
    for verdict in (winner, loser):
        if not verdict.judged:
            return verdict.reason
    return REASONS.get((winner.passed, loser.passed))


def verdict_columns(winner: Verdict, loser: Verdict) -> dict[str, Any]:
    """Both verdicts as columns."""
    return {
        "winner_score": winner.score,
        "loser_score": loser.score,
        "winner_verdict": canonical_json(winner.answer).decode(),
        "loser_verdict": canonical_json(loser.answer).decode(),
    }


def _batches(source: Version, shard: int, size: int) -> Iterator[list[tuple[dict[str, Any], bytes]]]:
    """Rows of IMAGES with their bytes, `size` at a time."""
    batch: list[tuple[dict[str, Any], bytes]] = []
    for row, (_, members) in zip(source.table(shard).to_pylist(), source.samples(shard), strict=True):
        batch.append((row, members[row["format"]]))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _pair_row(image: dict[str, Any], sample: int, seed: int) -> dict[str, Any]:
    loser_seed = derive_seed(seed, "pair", image["id"], sample)
    return {
        "id": content_id("pair", image["id"], loser_seed),
        "prompt_id": image["prompt_id"],
        "caption": image["caption"],
        "winner_id": image["id"],
        "winner_format": image["format"],
        "loser_seed": loser_seed,
    }


def _unreadable(image: dict[str, Any], why: BadImage, count: int, seed: int) -> list[Reject]:
    rows = [_pair_row(image, sample, seed) for sample in range(count)]
    return [Reject(row["id"], "winner_unreadable", f"{why.reason}: {why.detail}", row) for row in rows]


def _judged(
    images: Sequence[tuple[dict[str, Any], bytes, np.ndarray]],
    sampler: Sampler,
    judge: Judge,
    config: PairConfig,
    seed: int,
) -> Iterator[tuple[Candidate, Verdict, Verdict]]:
    """Each pair with the verdicts on winner and loser; a winner is judged once, however many losers it has."""
    if not images:
        return
    count = config.losers_per_prompt
    rows = [_pair_row(image, sample, seed) for image, _, _ in images for sample in range(count)]
    captions = [row["caption"] for row in rows]
    losers = sampler.images(captions, [row["loser_seed"] for row in rows], config.sample)
    winner_verdicts = judge.judge([image["caption"] for image, _, _ in images], [pixels for _, _, pixels in images])
    loser_verdicts = judge.judge(captions, list(losers))
    for number, (row, loser, verdict) in enumerate(zip(rows, losers, loser_verdicts, strict=True)):
        image, data, _ = images[number // count]
        blobs = {f"winner.{image['format']}": data, "loser.png": encode_image(loser, "png")}
        row["judge"] = config.judge.kind
        yield Candidate(row, blobs), winner_verdicts[number // count], verdict
