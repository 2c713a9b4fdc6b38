"""How many captions become few: rules of choice, each deterministic and blind to the order of captions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numba
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt64
from pydantic import Field

from lightgen.config import Config
from lightgen.decisions.far_apart import Rarity, far_apart
from lightgen.decisions.shingles import Shingles, stirred
from lightgen.problems import Problem

PART_ROWS = 4096
K_CENTER_MOST = 200_000  # captions that one k-center takes minutes for


class KCenter(Config):
    """The captions farthest from each other, all compared with all chosen: for up to 200,000."""

    kind: Literal["k_center"] = "k_center"


class Parts(Config):
    """k-center inside parts that captions are dealt to by lot: time grows as the number of captions."""

    kind: Literal["parts"] = "parts"
    part_rows: int = Field(default=PART_ROWS, ge=2, description="captions a part")


class Balance(Config):
    """Captions by lot, the fewer of a concept the more captions speak of it (Xu et al. 2023, MetaCLIP)."""

    kind: Literal["balance"] = "balance"


class BalancedParts(Config):
    """`balance`, of which `parts` takes the captions farthest from each other."""

    kind: Literal["balance+parts"] = "balance+parts"
    part_rows: int = Field(default=PART_ROWS, ge=2, description="captions a part")
    pool: float = Field(default=2.0, ge=1, description="captions that balance leaves for each that parts chooses")


ChoiceConfig = Annotated[KCenter | Parts | Balance | BalancedParts, Field(discriminator="kind")]


@dataclass(frozen=True)
class Candidates:
    """Captions in order of their caption_ids, which are hashes and so decide as lots do.

    lots: 64 bits of each id
    rows: where `every_term` has its terms
    every_term: terms (see `lightgen.decisions.far_apart.terms_of`), of other captions too: they may lie in a file
    concepts: numbers of those that each caption speaks of
    kept: captions that are chosen before all others
    """

    lots: UInt64[np.ndarray, " n"]
    rows: Int64[np.ndarray, " n"]
    every_term: Shingles
    concepts: Shingles
    kept: Bool[np.ndarray, " n"]

    def terms(self, places: Int64[np.ndarray, " k"]) -> Shingles:
        """The terms of some of them, in memory."""
        return self.every_term.take(self.rows[places])


def too_many(rule: ChoiceConfig, captions: int) -> Iterator[Problem]:
    """What stands in the way of choosing from so many captions."""
    if isinstance(rule, KCenter) and captions > K_CENTER_MOST:
        told = f"k_center compares every caption with every chosen one, and there are {captions:,}"
        yield Problem("recipe", "choice", told, "take kind: parts or balance+parts, which do the same in small parts")


def choose(
    rule: ChoiceConfig, given: Candidates, count: int
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """Places of the chosen candidates in order of choice, and their distance to those before; NaN where none is known.

    Kept ones are chosen even beyond `count`. Time: n log n for balance, n x part_rows for parts, n x count for
    k_center.
    """
    n = len(given.lots)
    count = max(min(count, n), int(given.kept.sum()))
    if count == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    if isinstance(rule, KCenter):
        return _in_parts(given, np.arange(n), count, n)
    if isinstance(rule, Parts):
        return _in_parts(given, np.arange(n), count, rule.part_rows)
    if isinstance(rule, Balance):
        return balanced(given)[:count], np.full(count, np.nan, np.float32)
    pool = np.sort(balanced(given)[: max(count, int(count * rule.pool))])
    return _in_parts(given, pool, count, rule.part_rows)


def balanced(given: Candidates) -> Int64[np.ndarray, " n"]:
    """All candidates in the order in which balance takes them.

    A caption stays, for a limit t, if for one of its concepts a lot below 1 is at most t / captions of the concept. So
    it comes at the least t that keeps it: the least product of lot and captions of the concept. Captions without any
    concept are one of their own.
    """
    numbers, offsets = given.concepts.hashes, given.concepts.offsets
    held = np.bincount(numbers, minlength=1)
    without = int((np.diff(offsets) == 0).sum())
    limits = _limits(given.lots, numbers, offsets, held, without)
    limits[given.kept] = -1
    return np.argsort(limits, kind="stable")


def _in_parts(
    given: Candidates, pool: Int64[np.ndarray, " n"], count: int, part_rows: int
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """k-center among `pool` in parts dealt by lot; part by part in turns, the first of every part first."""
    kept = given.kept[pool]
    parts = -(-len(pool) // part_rows)
    # Lots in another order than the ids, so that what the ids already decided is not decided again.
    part = (_stirred(given.lots[pool]) >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)
    order = np.argsort(part, kind="stable")
    sizes = np.bincount(part.astype(np.int64), minlength=parts)
    held = np.bincount(part.astype(np.int64), weights=kept, minlength=parts).astype(np.int64)
    counts = held + shared_out(count - int(held.sum()), sizes - held)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    terms = given.terms(pool[order])
    chosen, novelty = far_apart(terms, Rarity.of(terms), starts, counts, kept[order])
    begins = np.cumsum(counts) - counts
    place = np.arange(len(chosen)) - np.repeat(begins, counts)
    turn = np.lexsort((np.repeat(np.arange(parts), counts), place))
    return pool[order[chosen][turn]], novelty[turn]


def shared_out(count: int, sizes: Int64[np.ndarray, " parts"]) -> Int64[np.ndarray, " parts"]:
    """`count` dealt to parts as their sizes are, to one more or less; the largest remainders first."""
    whole, rest = np.divmod(count * sizes, max(int(sizes.sum()), 1))
    whole[np.argsort(-rest, kind="stable")[: count - whole.sum()]] += 1
    return whole


@numba.njit(cache=True)
def _stirred(lots: np.ndarray) -> np.ndarray:
    out = np.empty_like(lots)
    for i in range(len(lots)):
        out[i] = stirred(lots[i] ^ np.uint64(0x9E3779B97F4A7C15))
    return out


@numba.njit(cache=True)
def _limits(lots: np.ndarray, numbers: np.ndarray, offsets: np.ndarray, held: np.ndarray, without: int) -> np.ndarray:
    """For each caption the least limit that keeps it."""
    out = np.empty(len(lots))
    for i in range(len(lots)):
        out[i] = _lot(lots[i], np.uint64(0xFFFFFFFF)) * without if offsets[i] == offsets[i + 1] else np.inf
        for at in range(offsets[i], offsets[i + 1]):
            out[i] = min(out[i], _lot(lots[i], np.uint64(numbers[at])) * held[numbers[at]])
    return out


@numba.njit(cache=True)
def _lot(seed: np.uint64, concept: np.uint64) -> float:
    """A number from 0 to below 1 that caption and concept decide."""
    value = stirred(stirred(seed ^ np.uint64(0xD1B54A32D192ED03)) ^ concept * np.uint64(0x9E3779B97F4A7C15))
    return np.float64(value >> np.uint64(11)) / 9007199254740992.0
