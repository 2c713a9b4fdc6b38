"""Which captions become prompts: no repeats, nothing of the evaluation, and the most diverse of the rest."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int8, Int32, Int64, UInt64

from lightgen.decisions.embed import hashed_ngrams
from lightgen.decisions.equal_words import first_of_equal
from lightgen.decisions.kcenter import k_center
from lightgen.decisions.near_duplicates import NearDuplicateConfig, near_duplicates
from lightgen.decisions.vendi import vendi_score

REASONS = ("", "duplicate_exact", "contaminated", "duplicate_near", "not_chosen")
CHOSEN, EXACT, CONTAMINATED, NEAR, NOT_CHOSEN = range(len(REASONS))
GRID = 2048.0  # vectors of whole numbers up to this: sums of their products are exact in float32
VENDI_ROWS = 20_000
Summary = dict[str, float | int]


@dataclass(frozen=True)
class Selection:
    """What becomes of every caption, in the order of `captions`.

    captions: id (of the record), caption_id and caption
    reason: place in REASONS; CHOSEN is 0
    twin: the caption that stays in the place of a repeat, else -1
    rank: order of choice, else -1
    novelty: distance to those chosen before, 0 to 2
    why: for contaminated captions, what they are too near to
    """

    captions: pa.Table
    reason: Int8[np.ndarray, " n"]
    twin: Int64[np.ndarray, " n"]
    rank: Int32[np.ndarray, " n"]
    novelty: Float32[np.ndarray, " n"]
    why: Mapping[int, str]
    summary: Summary = field(default_factory=dict)

    def detail(self, row: int) -> str:
        """Why a caption is refused, for people."""
        reason = self.reason[row]
        if reason == CONTAMINATED:
            return self.why[row]
        if reason == NOT_CHOSEN:
            return f"not among the {self.summary['chosen']} most diverse"
        twin = int(self.twin[row])
        words = "same words as" if reason == EXACT else "near-duplicate of"
        return f"{words} {self.captions['id'][twin]}: {self.captions['caption'][twin]}"


def choose_captions(
    captions: pa.Table,
    words: UInt64[np.ndarray, "n 2"],
    why: Mapping[int, str],
    near: NearDuplicateConfig | None,
    count: int | None,
    dim: int,
) -> Selection:
    """The verdicts on all captions, whatever their order; `words` and `why` say which are equal or contaminated.

    Of equal captions the smallest record stays, of near ones the smallest caption_id. Memory: the texts and about 150
    bytes a caption, and what near-duplicates and k-center take.
    """
    n = captions.num_rows
    reason, twin = np.zeros(n, np.int8), np.full(n, -1, np.int64)
    first = first_of_equal(words, pc.sort_indices(captions["id"]).to_numpy().astype(np.int64))
    repeats = first != np.arange(n)
    reason[list(why)] = CONTAMINATED
    reason[repeats], twin[repeats] = EXACT, first[repeats]
    summary: Summary = {"captions": n}
    if near is not None:
        summary |= _refuse_near(captions, near, reason, twin)
    rank, novelty = np.full(n, -1, np.int32), np.zeros(n, np.float32)
    alive = _by_caption_id(captions, np.flatnonzero(reason == CHOSEN))
    vectors = _vectors(captions, alive, dim)
    order, distance = k_center(vectors, len(alive) if count is None else count)
    reason[alive] = NOT_CHOSEN
    chosen = alive[order]
    reason[chosen], rank[chosen], novelty[chosen] = CHOSEN, np.arange(len(order)), distance
    summary |= {"left": len(alive), "chosen": len(order), **_diversity(captions, vectors, order, dim)}
    summary |= {REASONS[code]: number for code, number in sorted(Counter(reason.tolist()).items()) if code != CHOSEN}
    return Selection(captions, reason, twin, rank, novelty, why, summary)


def _refuse_near(captions: pa.Table, near: NearDuplicateConfig, reason: np.ndarray, twin: np.ndarray) -> Summary:
    """Marks near-duplicates in `reason` and `twin`; how many pairs were looked at."""
    alive = np.flatnonzero(reason == CHOSEN)
    ids, texts = (captions[name].take(pa.array(alive)).to_pylist() for name in ("caption_id", "caption"))
    found = near_duplicates(ids, texts, near)
    refused = alive[found.refused >= 0]
    reason[refused], twin[refused] = NEAR, alive[found.refused[found.refused >= 0]]
    return {"pairs_compared": found.compared, "pairs_skipped": found.skipped}


def _by_caption_id(captions: pa.Table, rows: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
    return rows[pc.sort_indices(captions["caption_id"].take(pa.array(rows))).to_numpy()]


def _vectors(captions: pa.Table, rows: Int64[np.ndarray, " k"], dim: int) -> Float32[np.ndarray, "k dim"]:
    """Vectors of nearly unit length, on a grid: products of them do not hang on the number of threads."""
    vectors = hashed_ngrams(captions["caption"].take(pa.array(rows)).to_pylist(), dim)
    return np.rint(vectors * GRID, out=vectors) / np.float32(GRID)


def _diversity(captions: pa.Table, vectors: np.ndarray, order: np.ndarray, dim: int) -> Summary:
    """Vendi scores, each of at most VENDI_ROWS captions with the smallest caption_ids.

    caption_ids are hashes, so that these are drawn by lot; as many at random say what choosing is worth.
    """
    every = _by_caption_id(captions, np.arange(captions.num_rows))[:VENDI_ROWS]
    picked = np.sort(order)[:VENDI_ROWS]
    sets = {
        "captions": hashed_ngrams(captions["caption"].take(pa.array(every)).to_pylist(), dim),
        "distinct": vectors[:VENDI_ROWS],
        "chosen": vectors[picked],
        "random": vectors[: len(picked)],
    }
    return {f"vendi_{name}": vendi_score(rows) for name, rows in sets.items()}
