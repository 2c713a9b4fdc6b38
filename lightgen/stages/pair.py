"""IMAGES or PROMPTS + CHECKPOINT -> PAIRS: two images of a caption, kept where a judge tells them apart.

As published the winner is the teacher's or a real image and the loser the student's (model_facts section 0 row 6, 3.1);
with `winner: student` both are the student's own, so that nothing but what the judge sees sets them apart. Bytes of
the teacher pass through untouched and samples are stored without loss: a codec must not become the preference (3.4).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

import lightgen.model
import lightgen.scenes
import lightgen.scorers
from lightgen.errors import ConfigError
from lightgen.generators.restore import Weights
from lightgen.generators.sampler import Sampler
from lightgen.model.sampling import SampleConfig
from lightgen.progress import SILENT, Progress
from lightgen.scorers.judge import Judge, JudgeConfig, load_judge
from lightgen.scorers.qwen_vl import QwenVlConfig, judge_identity
from lightgen.scorers.verdict import Verdict
from lightgen.seeds import content_id, derive_seed
from lightgen.settings import Device, pick_device
from lightgen.storage.build import Reject, ShardOutput, build, finished, make_plan, rows_done
from lightgen.storage.pixels import BadImage, decode_image, encode_image
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.canonical import canonical_json
from schemas.pairs import SCHEMA
from schemas.ref import ArtifactRef

REASONS = {(True, True): "loser_right", (False, True): "winner_wrong", (False, False): "both_wrong"}


class PairConfig(BaseModel):
    """Whose images are compared, how many, and who judges."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: JudgeConfig
    sample: SampleConfig = SampleConfig()
    weights: Weights = "ema"
    winner: Literal["teacher", "student"] = Field(
        default="teacher", description="student: a sample that passed, against one of the same caption that did not"
    )
    samples_per_prompt: int = Field(
        default=1,
        ge=1,
        description="of the student, for each image of the teacher; where the student wins, an even number",
    )
    batch_size: int = Field(default=64, gt=0, description="images of the teacher, or captions, worked on together")
    max_reject_fraction: float = Field(default=1.0, gt=0, le=1, description="a good student leaves few telling pairs")
    device: Device = "auto"

    @model_validator(mode="after")
    def _valid(self) -> "PairConfig":
        if self.winner == "student" and self.samples_per_prompt % 2:
            raise ValueError(f"pair.winner is student: samples_per_prompt must be even, not {self.samples_per_prompt}")
        return self

    @property
    def pairs_per_row(self) -> int:
        """Pairs that an image of the teacher, or a caption, can give."""
        return self.samples_per_prompt // (2 if self.winner == "student" else 1)

    def content(self) -> "PairConfig":
        """Without where it runs and whether it is accepted; the batch stays, as it moves the last bits of a sample."""
        return self.model_copy(update={"max_reject_fraction": 1.0, "device": "auto"})


@dataclass(frozen=True)
class Candidate:
    """A pair before judgement."""

    row: dict[str, Any]
    blobs: dict[str, bytes]


@dataclass(frozen=True)
class Sample:
    """What the student drew for a caption, and what the judge says of it."""

    seed: int
    pixels: np.ndarray
    verdict: Verdict


def pair(
    drawn: ArtifactRef,
    checkpoint: ArtifactRef,
    config: PairConfig,
    store: Store,
    *,
    seed: int,
    progress: Progress = SILENT,
) -> ArtifactRef:
    """Sealed pairs of held-out captions; output shard i holds pairs of input shard i.

    `drawn` are the teacher's images, or, where the student's own samples win, prompts; another kind raises ConfigError.
    """
    wanted = "images" if config.winner == "teacher" else "prompts"
    if (drawn.kind == "images") != (wanted == "images"):
        raise ConfigError(f"pair.winner is {config.winner}: pairs are made of {wanted}, not of {drawn}")
    source, device = store.open(drawn), pick_device(config.device)
    modules = [
        lightgen.model,
        lightgen.scorers,
        lightgen.scenes,
        "lightgen.generators.sampler",
        "lightgen.stages.pair",
    ]
    parents, models = [drawn, checkpoint], [_judge_identity(config, device)]
    plan = make_plan("pairs", "pair", modules, config.content(), seed, parents, source.n_shards, models=models)
    if done := finished(store, plan):
        return done
    sampler = Sampler.from_checkpoint(store.open(checkpoint), store, device, config.weights)
    judge = load_judge(config.judge, device)
    progress.start("pair", source.rows * config.pairs_per_row, "pairs", rows_done(store, plan))
    shard_of = own_shard if config.winner == "student" else pair_shard

    def make_shard(shard: int) -> ShardOutput:
        return shard_of(source, shard, sampler, judge, config, seed, progress)

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
    """Draw, judge and sort one shard of the teacher's images."""
    kept: list[tuple[dict[str, Any], dict[str, bytes]]] = []
    rejects: list[Reject] = []
    for rows in _batches(source, shard, config.batch_size):
        readable = [(row, data, decode_image(data)) for row, data in rows]
        for row, _, pixels in readable:
            if isinstance(pixels, BadImage):
                rejects += _unreadable(row, pixels, config.samples_per_prompt, seed)
        good = [(row, data, pixels) for row, data, pixels in readable if not isinstance(pixels, BadImage)]
        for candidate, winner, loser in _judged(good, sampler, judge, config, seed):
            row = {**candidate.row, **verdict_columns(winner, loser)}
            reason = reject_reason(winner, loser)
            if reason is None:
                kept.append((row, {**candidate.blobs, "json": canonical_json(row)}))
            else:
                detail = f"winner: {winner.reason or 'passed'}; loser: {loser.reason or 'passed'}"
                rejects.append(Reject(row["id"], reason, detail, row))
        progress.advance(len(rows) * config.samples_per_prompt, f"{len(kept)} kept")
    return _output(kept, rejects)


def own_shard(
    source: Version,
    shard: int,
    sampler: Sampler,
    judge: Judge,
    config: PairConfig,
    seed: int,
    progress: Progress = SILENT,
) -> ShardOutput:
    """Draw, judge and sort the student's samples of one shard of captions: right ones against wrong ones, in order."""
    kept: list[tuple[dict[str, Any], dict[str, bytes]]] = []
    rejects: list[Reject] = []
    prompts = source.table(shard, columns=["id", "caption"]).to_pylist()
    for first in range(0, len(prompts), config.batch_size):
        batch = prompts[first : first + config.batch_size]
        for prompt, samples in zip(batch, _judged_samples(batch, sampler, judge, config, seed), strict=True):
            right = [sample for sample in samples if sample.verdict.judged and sample.verdict.passed]
            wrong = [sample for sample in samples if sample.verdict.judged and not sample.verdict.passed]
            pairs = list(zip(right, wrong, strict=False))
            kept += [_own_pair(prompt, winner, loser, config.judge.kind) for winner, loser in pairs]
            rejects += _unpaired(prompt, samples, range(len(pairs), config.pairs_per_row), len(right), len(wrong))
        progress.advance(len(batch) * config.pairs_per_row, f"{len(kept)} kept")
    return _output(kept, rejects)


def _output(kept: list[tuple[dict[str, Any], dict[str, bytes]]], rejects: list[Reject]) -> ShardOutput:
    table = pa.Table.from_pylist([row for row, _ in kept], schema=SCHEMA)
    blobs = [members for _, members in kept]
    return ShardOutput(table=table, rows_in=len(kept) + len(rejects), rejects=rejects, blobs=blobs)


def _judged_samples(
    prompts: Sequence[dict[str, Any]], sampler: Sampler, judge: Judge, config: PairConfig, seed: int
) -> list[list[Sample]]:
    """The student's samples of each prompt."""
    count = config.samples_per_prompt
    captions = [prompt["caption"] for prompt in prompts for _ in range(count)]
    seeds = [derive_seed(seed, "pair", prompt["id"], number) for prompt in prompts for number in range(count)]
    images = sampler.images(captions, seeds, config.sample)
    samples = list(map(Sample, seeds, images, judge.judge(captions, list(images))))
    return [samples[first : first + count] for first in range(0, len(samples), count)]


def _own_pair(
    prompt: dict[str, Any], winner: Sample, loser: Sample, judge: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    winner_id = content_id("own", prompt["id"], winner.seed)
    row = {
        "id": content_id("pair", winner_id, loser.seed),
        "prompt_id": prompt["id"],
        "caption": prompt["caption"],
        "winner_id": winner_id,
        "winner_format": "png",
        "winner_seed": winner.seed,
        "loser_seed": loser.seed,
        "judge": judge,
        **verdict_columns(winner.verdict, loser.verdict),
    }
    blobs = {"winner.png": encode_image(winner.pixels, "png"), "loser.png": encode_image(loser.pixels, "png")}
    return row, {**blobs, "json": canonical_json(row)}


def _unpaired(prompt: dict[str, Any], samples: list[Sample], places: range, right: int, wrong: int) -> list[Reject]:
    """One reject for each pair that a caption could have given."""
    reason = "too_few_wrong" if right > wrong else "too_few_right"
    if right + wrong < len(samples):
        reason = next(sample.verdict.reason for sample in samples if not sample.verdict.judged)
    detail = f"of {len(samples)} samples {right} right, {wrong} wrong"
    row = {"prompt_id": prompt["id"], "caption": prompt["caption"], "seeds": [sample.seed for sample in samples]}
    return [Reject(content_id("unpaired", prompt["id"], place), reason, detail, row) for place in places]


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
        "winner_seed": None,
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
    count = config.samples_per_prompt
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
