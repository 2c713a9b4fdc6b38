"""The exam all models sit: which prompts, with which seeds, and how an image of one is judged."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lightgen.errors import InputCorrupt
from lightgen.evaluation.detectors import Detector
from lightgen.evaluation.geneval import Metadata, judge_image, scene_metadata
from lightgen.generators.base import TeacherFailure
from lightgen.progress import Progress
from lightgen.scenes.grammar import parse
from lightgen.seeds import content_id, derive_seed
from lightgen.storage.build import Reject
from lightgen.storage.version import Version

# Captions and seeds in, images or failures out.
Painter = Callable[[Sequence[str], Sequence[int]], Sequence[np.ndarray | TeacherFailure]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One image to draw."""

    prompt_id: str
    caption: str
    metadata: Metadata
    sample: int
    seed: int


@dataclass(frozen=True)
class Judged:
    """What one model made of the exam; `shots` holds the pixels of the prompts that are shown, by prompt id."""

    name: str
    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    shots: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Exam:
    """Every image to draw, the same for all models; prompts that GenEval's rules cannot judge are refused."""

    jobs: list[Job]
    rejects: list[Reject]
    metadata_sha256: str

    def shown(self, each: int) -> list[Job]:
        """Sample 0 of the first `each` prompts of every task: what a report exhibits, not chosen by result."""
        seen: dict[str, int] = {}
        jobs = []
        for job in self.jobs:
            task = job.metadata.tag
            if job.sample == 0 and seen.get(task, 0) < each:
                seen[task] = seen.get(task, 0) + 1
                jobs.append(job)
        return jobs

    def sit(
        self, name: str, paint: Painter, detector: Detector, batch_size: int, each: int, progress: Progress
    ) -> Judged:
        """Let one model draw everything, and judge it; keeps the pixels of `each` prompts a task."""
        judged, wanted = Judged(name), {job.prompt_id for job in self.shown(each)}
        for first in range(0, len(self.jobs), batch_size):
            jobs = self.jobs[first : first + batch_size]
            images = paint([job.caption for job in jobs], [job.seed for job in jobs])
            drawn = [(job, image) for job, image in zip(jobs, images, strict=True) if isinstance(image, np.ndarray)]
            failed = [
                (job, image) for job, image in zip(jobs, images, strict=True) if isinstance(image, TeacherFailure)
            ]
            judged.rows.extend(_verdicts(name, drawn, detector))
            judged.rejects.extend(_failure(name, job, why) for job, why in failed)
            judged.shots.update(
                (job.prompt_id, image) for job, image in drawn if job.sample == 0 and job.prompt_id in wanted
            )
            progress.advance(len(jobs), name)
        return judged


def read_exam(prompts: Version, metadata: str | None, samples: int, seed: int) -> Exam:
    """`samples` jobs for each prompt; its meaning comes from a GenEval JSONL, else from the grammar of scenes."""
    known, digest = _read_metadata(metadata)
    jobs: list[Job] = []
    rejects: list[Reject] = []
    for row in prompts.table(columns=["id", "caption"]).to_pylist():
        scene = parse(row["caption"])
        meaning = known.get(row["caption"]) or (scene_metadata(scene) if scene else None)
        if meaning is None:
            rejects.append(Reject(row["id"], "not_a_geneval_prompt", "no scene caption, and not in the metadata", row))
            continue
        for sample in range(samples):
            drawn_with = derive_seed(seed, "evaluate", row["id"], sample)
            jobs.append(Job(row["id"], row["caption"], meaning, sample, drawn_with))
    return Exam(jobs, rejects, digest)


def _read_metadata(path: str | None) -> tuple[dict[str, Metadata], str]:
    """GenEval's `evaluation_metadata.jsonl` by prompt, and its sha256; raises InputCorrupt naming the line."""
    if path is None:
        return {}, ""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputCorrupt(f"evaluate.metadata: {path} cannot be read: {error.strerror}") from error
    known: dict[str, Metadata] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            meaning = Metadata.model_validate_json(line)
        except ValueError as error:
            raise InputCorrupt(f"{path}, line {number}: not a line of GenEval's metadata: {error}") from error
        known[meaning.prompt] = meaning
    return known, hashlib.sha256(data).hexdigest()


def _verdicts(name: str, drawn: Sequence[tuple[Job, np.ndarray]], detector: Detector) -> list[Row]:
    found = detector.detect([image for _, image in drawn], [job.metadata for job, _ in drawn])
    rows = []
    for (job, image), detections in zip(drawn, found, strict=True):
        verdict = judge_image(detections, job.metadata)
        pixels = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
        rows.append({**_row(name, job), "correct": verdict.correct, "reason": verdict.reason, "image_sha256": pixels})
    return rows


def _failure(name: str, job: Job, why: TeacherFailure) -> Reject:
    row = _row(name, job)
    return Reject(row["id"], why.reason, why.detail, row)


def _row(name: str, job: Job) -> Row:
    return {
        "id": content_id("report", name, job.prompt_id, job.sample),
        "model": name,
        "task": job.metadata.tag,
        "prompt_id": job.prompt_id,
        "caption": job.caption,
        "sample": job.sample,
        "seed": job.seed,
    }
