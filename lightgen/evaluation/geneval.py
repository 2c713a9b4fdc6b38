"""GenEval's rules (Ghosh et al. 2023) over detections: pure, so they can be checked by hand; see model_facts 5.1."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from lightgen.scenes.grammar import Scene, caption, parse

Tag = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
TAGS: tuple[Tag, ...] = get_args(Tag)

THRESHOLD = 0.3
COUNTING_THRESHOLD = 0.9
MAX_PER_CLASS = 16
POSITION_MARGIN = 0.1


class Wanted(BaseModel):
    """One group of objects a prompt asks for; `position` = (relation, index of the group it relates to)."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    name: str = Field(alias="class")
    count: int = Field(ge=1)
    color: str | None = None
    position: tuple[str, int] | None = None


class Metadata(BaseModel):
    """What one prompt means: a line of GenEval's evaluation_metadata.jsonl."""

    model_config = ConfigDict(frozen=True)

    tag: Tag
    include: tuple[Wanted, ...]
    exclude: tuple[Wanted, ...] = ()
    prompt: str


@dataclass(frozen=True)
class Detected:
    """A box of a class; `color` is what the colour classifier says of it. Box: (x0, y0, x1, y1) px."""

    name: str
    score: float
    box: tuple[float, float, float, float]
    color: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether an image shows what its prompt asks for, and if not, why."""

    correct: bool
    reason: str


def scene_metadata(scene: Scene) -> Metadata:
    """GenEval's metadata of a scene; as there, "A left of B" is B, and then A with position (left of, 0)."""
    wanted = [Wanted.model_validate({"class": o.shape, "count": o.count, "color": o.color}) for o in scene.objects]
    if scene.relation:
        wanted = [wanted[1], wanted[0].model_copy(update={"position": (scene.relation, 0)})]
    exclude: tuple[Wanted, ...] = ()
    if scene.task == "counting":
        exclude = (wanted[0].model_copy(update={"count": wanted[0].count + 1}),)
    return Metadata(tag=scene.task, include=tuple(wanted), exclude=exclude, prompt=caption(scene))


def scene_meaning(text: str) -> Metadata | None:
    """What a caption of the scene world asks for; None where it is not in its language."""
    scene = parse(text)
    return scene_metadata(scene) if scene else None


def judge_image(detections: Iterable[Detected], meaning: Metadata) -> Verdict:
    """GenEval's verdict on one image."""
    threshold = COUNTING_THRESHOLD if meaning.tag == "counting" else THRESHOLD
    found = _by_class(detections, threshold)
    chosen: list[list[Detected] | None] = []
    reasons: list[str] = []
    for wanted in meaning.include:
        objects, reason = _choose(found.get(wanted.name, []), wanted)
        reasons += [reason] if reason else []
        chosen.append(objects)
    for wanted, objects in zip(meaning.include, chosen, strict=True):
        if wanted.position and objects:
            reasons += _misplaced(wanted, objects, chosen)
    for unwanted in meaning.exclude:
        there = len(found.get(unwanted.name, []))
        if there >= unwanted.count:
            reasons.append(f"expected fewer than {unwanted.count} {unwanted.name}, found {there}")
    return Verdict(not reasons, "; ".join(reasons))


def share_met(verdict: Verdict, meaning: Metadata) -> float:
    """How much of what was asked for is there, 0 to 1: of every group, relation and upper limit."""
    if verdict.correct:
        return 1.0
    asked = len(meaning.include) + len(meaning.exclude) + sum(group.position is not None for group in meaning.include)
    return max(0.0, 1 - len(verdict.reason.split("; ")) / asked)


def direction(a: Detected, b: Detected) -> set[str]:
    """Where `a` lies as seen from `b`: none, one or two of left of, right of, above, below."""
    gaps, beyond = [], []
    for low in (0, 1):
        gap = (a.box[low] + a.box[low + 2] - b.box[low] - b.box[low + 2]) / 2
        sizes = (a.box[low + 2] - a.box[low]) + (b.box[low + 2] - b.box[low])
        gaps.append(gap)
        beyond.append(math.copysign(max(abs(gap) - POSITION_MARGIN * sizes, 0.0), gap))
    if all(abs(part) < 1e-3 for part in beyond):
        return set()
    # By the length of the whole offset, not of what is beyond the margin: so GenEval has it.
    dx, dy = (part / math.hypot(*gaps) for part in beyond)
    signs = {"left of": dx < -0.5, "right of": dx > 0.5, "above": dy < -0.5, "below": dy > 0.5}
    return {name for name, holds in signs.items() if holds}


def task_scores(correct: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """Mean of every task, and `overall`: the unweighted mean of the task means."""
    scores = {task: sum(marks) / len(marks) for task, marks in correct.items()}
    return {**scores, "overall": sum(scores.values()) / len(scores)}


def _by_class(detections: Iterable[Detected], threshold: float) -> dict[str, list[Detected]]:
    """Confident boxes of every class, the surest first, at most MAX_PER_CLASS."""
    found: dict[str, list[Detected]] = {}
    for box in sorted(detections, key=lambda box: -box.score):
        same = found.setdefault(box.name, [])
        if box.score > threshold and len(same) < MAX_PER_CLASS:
            same.append(box)
    return found


def _choose(boxes: list[Detected], wanted: Wanted) -> tuple[list[Detected] | None, str]:
    """The top boxes of a class, if they are as many and of the colour wanted; else None and why."""
    chosen = boxes[: wanted.count]
    if len(chosen) < wanted.count:
        return None, f"expected {wanted.name} x{wanted.count}, found {len(chosen)}"
    if wanted.color is None:
        return chosen, ""
    right = sum(box.color == wanted.color for box in chosen)
    if right < wanted.count:
        seen = ", ".join(str(box.color) for box in chosen)
        return None, f"expected {wanted.color} {wanted.name} x{wanted.count}, found {seen}"
    return chosen, ""


def _misplaced(wanted: Wanted, objects: list[Detected], chosen: list[list[Detected] | None]) -> list[str]:
    assert wanted.position is not None
    relation, index = wanted.position
    others = chosen[index]
    if others is None:
        return [f"no target for {wanted.name} to be {relation}"]
    return [
        f"expected {wanted.name} {relation} target, found {', '.join(sorted(where)) or 'no direction'}"
        for box in objects
        for other in others
        if relation not in (where := direction(box, other))
    ]
