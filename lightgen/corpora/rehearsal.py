"""Captions for a rehearsal: plain sentences, captions of the scene world, and rows that real files hold too."""

import itertools
from random import Random

from lightgen.scenes.grammar import TASKS
from lightgen.scenes.grammar import captions as scene_captions

SENTENCES, SCENES = 22, 1  # of each task so many scenes
KINDS = (
    "wooden", "rusty", "painted", "broken", "tiny", "enormous", "glass", "woollen", "paper", "golden", "frozen",
    "empty", "crowded", "folded", "striped",
)  # fmt: skip
THINGS = (
    "lighthouse", "bicycle", "teapot", "violin", "glacier", "staircase", "umbrella", "tractor", "orchard", "typewriter",
    "canoe", "windmill", "lantern", "cathedral", "suitcase", "beehive", "accordion", "greenhouse", "telescope",
    "fountain", "caravan", "anchor", "chandelier", "scarecrow",
)  # fmt: skip
ACTS = ("leans", "stands", "rests", "lies", "hangs", "waits", "gleams", "burns", "melts", "floats")
PLACES = ("beside", "beneath", "behind", "before", "above", "inside", "near", "opposite")
TIMES = ("at dawn", "in heavy rain", "under a full moon", "during a storm", "after the snow", "in thick fog")


def captions(key: str) -> list[str]:
    """Sentences of which hardly two share three words in a row, the same for the same key, then scene captions."""
    random = Random(key)
    sentences = [_sentence(random) for _ in range(SENTENCES)]
    scenes = (itertools.islice(scene_captions("test", task), SCENES) for task in TASKS)
    return [*sentences, *itertools.chain.from_iterable(scenes)]


def odd_captions() -> list[str | None]:
    """Nothing, nearly nothing, far too much, damaged letters, an entity, a quote and a separator; one of them twice."""
    return [None, "", "x", "word " * 700, "cafÃ© au lait", "salt &amp; pepper", 'a "quoted", sign', 'a "quoted", sign']


def _sentence(random: Random) -> str:
    first, second = random.sample(THINGS, 2)
    kinds = random.sample(KINDS, 2)
    act, place, time = (random.choice(words) for words in (ACTS, PLACES, TIMES))
    return f"A {kinds[0]} {first} {act} {place} the {kinds[1]} {second} {time}"
