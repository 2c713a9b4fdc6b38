"""Rules of choice against k-center over all captions: time, and how well the chosen stand for all."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
from jaxtyping import Float32, Int64

from lightgen.bench.captions import real_shaped
from lightgen.decisions.choice import BalancedParts, Candidates, KCenter, Parts, choose
from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.embed import hashed_terms
from lightgen.decisions.far_apart import Rarity, terms_of
from lightgen.decisions.shingles import read_words
from lightgen.texts import plain_words

SHARE, DIM, ASKED = 0.2, 512, 5_000  # of captions chosen, of vectors, captions whose distance is measured
OURS, DENSE = "balance+parts", "k-center over dense vectors"


@dataclass(frozen=True)
class ChoiceCost:
    """Median processor seconds, mean and greatest cosine distance of captions to the nearest chosen, and ratios."""

    name: str
    seconds: float
    mean: float
    farthest: float
    ratios: tuple[float, float, float]


def choice_costs(rows: int, rounds: int = 1, *, dense: bool = True) -> list[ChoiceCost]:
    """All rules in turns over the same captions; distances are those of vectors of DIM numbers, for all rules alike."""
    texts = list(map(plain_words, dict.fromkeys(real_shaped(rows).to_pylist())))
    words, lots = read_words(texts), np.random.default_rng(0).integers(2**63, size=len(texts)).astype(np.uint64)
    terms, concepts = terms_of(words), all_concepts().found(words)
    given = Candidates(lots, np.arange(len(texts)), terms, concepts, np.zeros(len(texts), bool))
    count, vectors = int(len(texts) * SHARE), hashed_terms(terms, Rarity.of(terms), DIM)
    few = np.arange(min(len(texts), 500))
    some = Candidates(lots[few], few, terms, concepts.take(few), given.kept[few])
    rules = {OURS: BalancedParts(), "parts": Parts(), "k_center": KCenter()}
    ways: dict[str, Callable[[], np.ndarray]] = {
        name: lambda rule=rule: choose(rule, given, count)[0] for name, rule in rules.items()
    }
    if dense:
        ways[DENSE] = lambda: dense_k_center(vectors, count)
    ways["by lot"] = lambda: np.argsort(lots)[:count]
    for rule in rules.values():
        choose(rule, some, 100)  # compilation is paid once an installation
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    chosen: dict[str, Int64[np.ndarray, " k"]] = {}
    for turn in range(rounds):
        for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            began = time.process_time()
            chosen[name] = ways[name]()
            seconds[name].append(time.process_time() - began)
    return [_cost(name, seconds, vectors, chosen[name]) for name in ways]


def dense_k_center(vectors: Float32[np.ndarray, "n d"], count: int) -> Int64[np.ndarray, " k"]:
    """The plain greedy choice: the first row, then always the one whose greatest cosine with a chosen one is least."""
    chosen, nearest = np.zeros(count, np.int64), np.full(len(vectors), -np.inf, np.float32)
    for place in range(1, count):
        np.maximum(nearest, vectors @ vectors[chosen[place - 1]], out=nearest)
        nearest[chosen[place - 1]] = np.inf
        chosen[place] = np.argmin(nearest)
    return chosen


def _cost(
    name: str, seconds: dict[str, list[float]], vectors: Float32[np.ndarray, "n d"], chosen: np.ndarray
) -> ChoiceCost:
    asked = np.linspace(0, len(vectors) - 1, min(ASKED, len(vectors))).astype(int)
    distance = np.concatenate(
        [1 - (vectors[part] @ vectors[chosen].T).max(axis=1) for part in np.array_split(asked, 20)]
    )
    ratios = sorted(theirs / mine for theirs, mine in zip(seconds[name], seconds[OURS], strict=True))
    spread = (ratios[0], median(ratios), ratios[-1])
    return ChoiceCost(name, median(seconds[name]), float(distance.mean()), float(distance.max()), spread)
