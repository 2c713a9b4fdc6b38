"""The language of the scene world: captions of six kinds, their exact meaning, and splits by meaning.

The six tasks are GenEval's. A caption is (scene, template): the scene is what it means, the template only how it says
so. Splits are drawn over meanings, so neither a paraphrase nor a mirrored relation can leak from train to test.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from operator import itemgetter
from typing import Literal, get_args

Shape = Literal["circle", "square", "triangle", "cross"]
Color = Literal["red", "yellow", "green", "cyan", "blue", "purple"]
Relation = Literal["left of", "right of", "above", "below"]
Background = Literal["dark", "gray", "light"]
Task = Literal["single_object", "two_object", "counting", "colors", "position", "color_attr"]
Split = Literal["train", "preference", "test"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLORS: tuple[Color, ...] = get_args(Color)
RELATIONS: tuple[Relation, ...] = get_args(Relation)
BACKGROUNDS: tuple[Background, ...] = get_args(Background)
TASKS: tuple[Task, ...] = get_args(Task)
SPLITS: tuple[Split, ...] = get_args(Split)
MAX_COUNT = 4

_PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses"}
_SINGULARS = {plural: shape for shape, plural in _PLURALS.items()}
_NUMBERS = {2: "two", 3: "three", 4: "four"}
_COUNTS = {word: count for count, word in _NUMBERS.items()}
_OPPOSITE: dict[Relation, Relation] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
_PREFIXES = ("a photo of ", "a picture of ", "")
_GROUNDS = (" on a {} background",)
_CAPTION = re.compile(
    rf"(?:{'|'.join(_PREFIXES)})"
    rf"(?P<first>.+?)(?: (?P<relation>and|{'|'.join(RELATIONS)}) (?P<second>.+?))?"
    rf"(?: on a (?P<ground>{'|'.join(BACKGROUNDS)}) background)?"
)
_THING = re.compile(rf"(?P<number>a|{'|'.join(_COUNTS)})(?: (?P<color>{'|'.join(COLORS)}))? (?P<noun>[a-z]+)")
_HELD_OUT = 5  # one content in so many is for test, and as many for preference


@dataclass(frozen=True)
class Object:
    """`count` things of one shape and one colour; colour None: the caption leaves it open."""

    shape: Shape
    color: Color | None = None
    count: int = 1


@dataclass(frozen=True)
class Scene:
    """What a caption means. `relation` holds from the first object to the second."""

    task: Task
    objects: tuple[Object, ...]
    relation: Relation | None = None
    background: Background | None = None


def n_templates(scene: Scene) -> int:
    """How many captions say `scene` in this order of its objects."""
    return len(_PREFIXES) * (len(_GROUNDS) if scene.background else 1)


def caption(scene: Scene, template: int = 0) -> str:
    """The caption of `scene` in wording `template` (0 to n_templates - 1)."""
    ground, prefix = divmod(template, len(_PREFIXES))
    words = f" {scene.relation or 'and'} ".join(_phrase(thing) for thing in scene.objects)
    tail = _GROUNDS[ground].format(scene.background) if scene.background else ""
    return _PREFIXES[prefix] + words + tail


def _phrase(thing: Object) -> str:
    number = _NUMBERS.get(thing.count, "a")
    noun = thing.shape if thing.count == 1 else _PLURALS[thing.shape]
    return f"{number} {thing.color} {noun}" if thing.color else f"{number} {noun}"


def parse(text: str) -> Scene | None:
    """The scene a caption means; None if it is not in the language. Inverse of `caption`; case and dot are free."""
    match = _CAPTION.fullmatch(" ".join(text.lower().split()).removesuffix("."))
    if match is None:
        return None
    relation, ground = match["relation"], match["ground"]
    things = [_thing(match["first"]), _thing(match["second"])] if relation else [_thing(match["first"])]
    objects = tuple(thing for thing in things if thing)
    task = _task(objects, relation) if len(objects) == len(things) else None
    if task is None:
        return None
    return Scene(task, objects, None if relation in (None, "and") else relation, ground)  # pyright: ignore[reportArgumentType]


def _thing(words: str) -> Object | None:
    match = _THING.fullmatch(words)
    if match is None:
        return None
    noun, count = match["noun"], _COUNTS.get(match["number"], 1)
    shape = noun if count == 1 else _SINGULARS.get(noun)
    return Object(shape, match["color"], count) if shape in SHAPES else None  # pyright: ignore[reportArgumentType]


def _task(objects: tuple[Object, ...], relation: str | None) -> Task | None:
    """The task that objects and relation make up; None if the language has no such scene."""
    first, second = objects[0], objects[-1]
    if relation is None:
        return "counting" if first.count > 1 else "colors" if first.color else "single_object"
    lone, colored = first.count == second.count == 1, bool(first.color)
    if not lone or first.shape == second.shape or colored != bool(second.color):
        return None
    if colored and first.color == second.color:
        return None
    return "position" if relation != "and" else "color_attr" if colored else "two_object"


def canonical(scene: Scene) -> Scene:
    """The one scene that stands for all sayings of the same content: A left of B is B right of A."""
    first, second = scene.objects[0], scene.objects[-1]
    if len(scene.objects) == 1 or first.shape < second.shape:
        return scene
    opposite = _OPPOSITE[scene.relation] if scene.relation else None
    return Scene(scene.task, (second, first), opposite, scene.background)


@cache
def all_scenes(task: Task) -> tuple[Scene, ...]:
    """Every scene of a task, in a fixed order."""
    grounds = (None, *BACKGROUNDS)
    if task in ("single_object", "colors", "counting"):
        colors = {"single_object": (None,), "colors": COLORS, "counting": (None, *COLORS)}[task]
        counts = range(2, MAX_COUNT + 1) if task == "counting" else (1,)
        groups = [(Object(s, c, n),) for n in counts for s in SHAPES for c in colors]
    else:
        plain = [] if task == "color_attr" else [(None, None)]
        pairs = plain if task == "two_object" else [*plain, *permutations(COLORS, 2)]
        groups = [(Object(s, c), Object(t, d)) for s, t in permutations(SHAPES, 2) for c, d in pairs]
    relations = RELATIONS if task == "position" else (None,)
    return tuple(Scene(task, group, r, ground) for group in groups for r in relations for ground in grounds)


@cache
def _splits(task: Task) -> dict[Scene, Split]:
    """Contents of a task by the order of their hashes, cut within each stratum: every split sees every shape."""
    strata: dict[tuple, list[Scene]] = {}
    for scene in sorted({canonical(scene) for scene in all_scenes(task)}, key=_hash):
        strata.setdefault(tuple((thing.shape, thing.count, bool(thing.color)) for thing in scene.objects), []).append(
            scene
        )
    split: dict[Scene, Split] = {}
    for scenes in strata.values():
        held_out = -(-len(scenes) // _HELD_OUT)
        split |= dict.fromkeys(scenes[:held_out], "test")
        split |= dict.fromkeys(scenes[held_out : 2 * held_out], "preference")
        split |= dict.fromkeys(scenes[2 * held_out :], "train")
    return split


def _hash(value: Scene | tuple[Scene, int]) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def split_of(scene: Scene) -> Split:
    """The split a scene belongs to, whatever its wording."""
    return _splits(scene.task)[canonical(scene)]


def captions(split: Split, task: Task) -> Iterator[str]:
    """Every caption of a task in a split, each once: shuffled by hash, with colours named and left open in turns.

    In turns because the coloured scenes are far more: every beginning of the sequence is a fair sample of both.
    """
    wordings = [(s, t) for s in all_scenes(task) if split_of(s) == split for t in range(n_templates(s))]
    wordings.sort(key=_hash)
    plain = [pair for pair in wordings if pair[0].objects[0].color is None]
    colored = [pair for pair in wordings if pair[0].objects[0].color is not None]
    ranked = [(rank, wording) for group in (plain, colored) for rank, wording in enumerate(group)]
    for _, (scene, template) in sorted(ranked, key=itemgetter(0)):
        yield caption(scene, template)
