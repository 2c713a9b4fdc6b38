"""Which captions give an evaluation prompt away: of the same plain words, holding its n-grams, or nearly the same."""

from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field
from scipy import sparse

from lightgen.config import Config
from lightgen.decisions.shingles import Shingles, shingle
from lightgen.texts import plain_words, subject

BLOCK = 4096


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
    exact = {_about(words, prompt): prompt for words, prompt in zip(theirs, prompts, strict=True)}
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
