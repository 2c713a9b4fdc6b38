"""What choosing is worth: Vendi scores, novelty curves and attribute coverage, before, after, and of as many by lot."""

from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from lightgen.decisions.choice import Candidates
from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.coverage import coverage
from lightgen.decisions.embed import hashed_terms
from lightgen.decisions.far_apart import Rarity, far_apart
from lightgen.decisions.shingles import Shingles
from lightgen.decisions.sketch import Sketch
from lightgen.decisions.vendi import vendi_score

VENDI_ROWS = 20_000
CURVE_ROWS = 4096  # captions whose novelty curve is drawn
CURVE_POINTS = 65


def diversity(
    given: Sketch, by_id: Int64[np.ndarray, " n"], candidates: Candidates, chosen: Int64[np.ndarray, " k"], dim: int
) -> dict[str, Any]:
    """Figures for the sets `captions` (all of them), `distinct` (without repeats), `chosen` and as many at `random`.

    Each score is of at most VENDI_ROWS captions with the smallest caption_ids, which are hashes: so drawn by lot.
    Concepts are counted in all captions of a set.
    """
    every = given.terms.take(by_id[:VENDI_ROWS])
    picked = np.sort(chosen)
    sets = {
        "captions": every,
        "distinct": candidates.terms(np.arange(min(VENDI_ROWS, len(candidates.lots)))),
        "chosen": candidates.terms(picked[:VENDI_ROWS]),
        "random": candidates.terms(np.arange(min(VENDI_ROWS, len(picked)))),
    }
    # One weight for a term in all sets: only then can their scores be compared.
    rarity, concepts = Rarity.of(every), all_concepts()
    held = {"captions": given.concepts.hashes, "chosen": candidates.concepts.take(picked).hashes}
    held["random"] = candidates.concepts.take(np.arange(len(picked))).hashes
    return {
        **{f"vendi_{name}": vendi_score(hashed_terms(terms, rarity, dim)) for name, terms in sets.items()},
        "novelty": {name: novelty_curve(terms, rarity) for name, terms in sets.items() if name != "distinct"},
        "coverage": {
            name: coverage(concepts, np.bincount(numbers, minlength=len(concepts.names)))
            for name, numbers in held.items()
        },
    }


def novelty_curve(terms: Shingles, rarity: Rarity) -> list[tuple[int, float]]:
    """(place, distance to all before it) of the first CURVE_ROWS texts, put in the order of k-center."""
    n = min(CURVE_ROWS, len(terms.offsets) - 1)
    if n < 2:
        return []
    ends = np.array([0, n], np.int64)
    first = Shingles(terms.hashes[: terms.offsets[n]], terms.offsets[: n + 1])
    novelty: Float32[np.ndarray, " n"] = far_apart(first, rarity, ends, ends[1:], np.zeros(n, bool))[1]
    places = np.unique(np.linspace(1, n - 1, CURVE_POINTS).astype(int))
    return [(int(place), round(float(novelty[place]), 4)) for place in places]
