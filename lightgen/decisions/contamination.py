"""Which captions give an evaluation prompt away: of the same plain words, holding its n-grams, or nearly the same."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numba
import numpy as np
from jaxtyping import Bool, Int64, UInt32, UInt64
from pydantic import Field
from scipy import sparse

from lightgen.config import Config
from lightgen.decisions.shingles import FNV_OFFSET, Shingles, Words, ngrams, read_words, shingle, stirred, without
from lightgen.texts import ARTICLES, NUMBERS, plain_words, subject

SPOKEN = {str(number): word for number, word in enumerate(NUMBERS, 1)}
BLOCK = 4096
KNOWN_BITS = 20


class ContaminationConfig(Config):
    """How close to an evaluation prompt is too close."""

    containment: float | None = Field(
        default=0.8, gt=0, le=1, description="share of the prompt's n-grams in a caption; null: no such check"
    )
    words: int = Field(default=4, ge=1, le=8, description="words an n-gram; shorter prompts count only when equal")
    similarity: float | None = Field(
        default=None, gt=0, le=1, description="Jaccard similarity of the word pairs, as for near-duplicates; null: no"
    )


def contaminated(captions: Sequence[str], prompts: Sequence[str], config: ContaminationConfig) -> dict[int, str]:
    """Index of each contaminated caption -> why, naming the prompt. Both are compared as plain words."""
    if not prompts:
        return {}
    mine, theirs = ([plain_words(text) for text in texts] for texts in (captions, prompts))
    exact = _said(tuple(prompts))
    found = {
        i: f"equals the evaluation prompt {exact[about]!r}"
        for i, (words, caption) in enumerate(zip(mine, captions, strict=True))
        if (about := _about(words, caption)) in exact
    }
    if config.containment is not None:
        # With articles, and without: either way of writing a prompt may stand in a longer caption.
        for form in (str, subject):
            held, sought = ([form(words) for words in texts] for texts in (mine, theirs))
            long = [i for i, text in enumerate(sought) if len(text.split()) >= config.words]
            close = _closest(held, [sought[i] for i in long], config.words, config.containment, of_prompt=True)
            for i, share, which in close:
                found.setdefault(i, f"holds {share:.0%} of the evaluation prompt {prompts[long[which]]!r}")
    if config.similarity is not None:
        for i, share, which in _closest(mine, theirs, 2, config.similarity, of_prompt=False):
            found.setdefault(i, f"is {share:.0%} like the evaluation prompt {prompts[which]!r}")
    return found


@lru_cache(4)
def _said(prompts: tuple[str, ...]) -> dict[str, str]:
    """What a caption must not be about, and the prompt that says it: as it stands, else in other ways."""
    words = {prompt: plain_words(prompt) for prompt in prompts}
    other_ways = {way: prompt for prompt in prompts for way in _ways(words[prompt])}
    return other_ways | {_about(words[prompt], prompt): prompt for prompt in prompts}


def _ways(words: str) -> Iterator[str]:
    """Other ways to say what a prompt of these plain words is about."""
    about = subject(words)
    parts = about.split()
    if not parts:
        return
    for text in (words, about):
        for together in ("".join(text.split()), "".join(SPOKEN.get(word, word) for word in text.split())):
            yield together
            yield subject(" ".join(together))  # letter by letter
    yield f"exactly {about}"
    for at, (word, following) in enumerate(itertools.pairwise(parts)):
        yield " ".join([*parts[:at], word + following, *parts[at + 2 :]])  # hotdog
    for at, word in enumerate(parts):
        plurals = [word.removesuffix("s")] if word.endswith("s") else []
        for other in [*plurals, word.removesuffix("es"), f"{word}s", f"{word}es"]:
            yield " ".join([*parts[:at], other, *parts[at + 1 :]])
    one, both, other = about.partition(" and ")
    if both:
        yield from (f"{one} {other}", f"{other} {one}", f"{other} and {one}", f"{one} with {other}")


def _about(words: str, text: str) -> str:
    """What a text is about; a text without any word, such as emoji, stays itself."""
    return subject(words) or words or text


def _closest(
    captions: Sequence[str], prompts: Sequence[str], words: int, least: float, of_prompt: bool
) -> Iterator[tuple[int, float, int]]:
    """(caption, share, prompt) of the best prompt where the shared n-grams are at least `least` of the prompt's, or
    of both texts' together; exact, over all pairs that share an n-gram."""
    theirs, mine = shingle(prompts, words), shingle(captions, words)
    known = np.unique(theirs.hashes)
    if not len(known):
        return
    given, held = _incidence(theirs, known), _incidence(mine, known)
    sizes, own = np.diff(theirs.offsets), np.diff(mine.offsets)
    for first in range(0, len(captions), BLOCK):
        shared = (held[first : first + BLOCK] @ given.T).tocoo()
        row, column = shared.row + first, shared.col
        whole = sizes[column] if of_prompt else own[row] + sizes[column] - shared.data
        share = shared.data / whole
        # The best prompt of each caption; of equals the first.
        best = np.lexsort((column, -share, row))
        best = best[np.unique(row[best], return_index=True)[1]]
        yield from ((int(row[k]), float(share[k]), int(column[k])) for k in best if share[k] >= least)


def _incidence(grams: Shingles, known: np.ndarray) -> sparse.csr_array:
    """Texts x known n-grams, 1 where the text has it."""
    at = np.minimum(np.searchsorted(known, grams.hashes), len(known) - 1)
    text = np.repeat(np.arange(len(grams.offsets) - 1), np.diff(grams.offsets))
    has = known[at] == grams.hashes
    ones = np.ones(int(has.sum()), np.int32)
    return sparse.csr_array((ones, (text[has], at[has])), shape=(len(grams.offsets) - 1, len(known)))


@dataclass(frozen=True)
class Screen:
    """What a caption must hold to be contaminated at all, so that only a few are compared text by text.

    subjects: hashes of the words of each prompt without articles, from the last word to the first, in all its ways
    grams: n-grams of `words` words of the prompts, with articles and without
    """

    subjects: UInt64[np.ndarray, " prompts"]
    grams: UInt32[np.ndarray, " grams"]
    words: int

    @cached_property
    def _known(self) -> Bool[np.ndarray, " slots"]:
        """Whether a gram has these upper bits."""
        known = np.zeros(1 << KNOWN_BITS, bool)
        known[self.grams >> np.uint32(32 - KNOWN_BITS)] = True
        return known

    @staticmethod
    def of(prompts: Sequence[str], config: ContaminationConfig) -> "Screen":
        """The screen before `contaminated` with the same arguments; it lets through all that could be contaminated."""
        words = config.words if config.similarity is None else min(2, config.words)
        plain = [plain_words(prompt) for prompt in prompts]
        bare = read_words([*map(subject, plain), *_said(tuple(prompts))])
        held = [ngrams(read_words([form(text) for text in plain]), words).hashes for form in (str, subject)]
        wanted = config.containment is not None or config.similarity is not None
        grams = np.unique(np.concatenate(held)) if wanted else np.zeros(0, np.uint32)
        return Screen(np.unique(_whole(bare.hashes, bare.offsets)), grams, words)

    def suspects(self, words: Words) -> Int64[np.ndarray, " k"]:
        """Which texts may be contaminated; `words` are those of plain words."""
        if not len(self.subjects):
            return np.zeros(0, np.int64)
        bare = without(words, sorted(ARTICLES))
        found = _ends_in(bare.hashes, bare.offsets, self.subjects)
        if len(self.grams):
            for form in (words, bare):
                grams = ngrams(form, self.words)
                found |= _holds(grams.hashes, grams.offsets, self.grams, self._known)
        return np.flatnonzero(found)


@numba.njit(cache=True)
def _whole(words: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    out = np.full(len(offsets) - 1, FNV_OFFSET, np.uint64)
    for i in range(len(out)):
        for at in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            out[i] = stirred(out[i] ^ words[at])
    return out


@numba.njit(cache=True)
def _ends_in(words: np.ndarray, offsets: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Whether a text has no word, or its last words, as many as there are, are those of a subject."""
    out = np.zeros(len(offsets) - 1, np.bool_)
    for i in range(len(out)):
        value = FNV_OFFSET
        out[i] = offsets[i] == offsets[i + 1]
        for at in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            value = stirred(value ^ words[at])
            place = np.searchsorted(subjects, value)
            out[i] |= place < len(subjects) and subjects[place] == value
    return out


@numba.njit(cache=True)
def _holds(hashes: np.ndarray, offsets: np.ndarray, known: np.ndarray, maybe: np.ndarray) -> np.ndarray:
    out = np.zeros(len(offsets) - 1, np.bool_)
    for i in range(len(out)):
        for at in range(offsets[i], offsets[i + 1]):
            if maybe[hashes[at] >> np.uint32(32 - KNOWN_BITS)] and not out[i]:
                place = np.searchsorted(known, hashes[at])
                out[i] = place < len(known) and known[place] == hashes[at]
    return out
