"""Which captions give an evaluation prompt away: equal after normalisation, holding its n-grams, or nearly the same."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import Field
from scipy import sparse

from lightgen.config import Config
from lightgen.decisions.shingles import Shingles, shingle

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
    """Index of each contaminated caption -> why, naming the prompt."""
    exact = {normalised(prompt): prompt for prompt in prompts}
    found = {
        i: f"equals the evaluation prompt {exact[plain]!r}"
        for i, caption in enumerate(captions)
        if (plain := normalised(caption)) in exact
    }
    if config.containment is not None:
        long = [prompt for prompt in prompts if len(normalised(prompt).split()) >= config.words]
        for i, share, prompt in _closest(captions, long, config.words, config.containment, of_prompt=True):
            found.setdefault(i, f"holds {share:.0%} of the evaluation prompt {prompt!r}")
    if config.similarity is not None:
        for i, share, prompt in _closest(captions, prompts, 2, config.similarity, of_prompt=False):
            found.setdefault(i, f"is {share:.0%} like the evaluation prompt {prompt!r}")
    return found


def normalised(text: str) -> str:
    """Lower-case words only; a text without any, such as emoji, stays itself."""
    return " ".join(re.findall(r"\w+", text.lower())) or text


def _closest(
    captions: Sequence[str], prompts: Sequence[str], words: int, least: float, of_prompt: bool
) -> Iterator[tuple[int, float, str]]:
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
        yield from ((int(row[k]), float(share[k]), prompts[int(column[k])]) for k in best if share[k] >= least)


def _incidence(grams: Shingles, known: np.ndarray) -> sparse.csr_array:
    """Texts x known n-grams, 1 where the text has it."""
    at = np.minimum(np.searchsorted(known, grams.hashes), len(known) - 1)
    text = np.repeat(np.arange(len(grams.offsets) - 1), np.diff(grams.offsets))
    has = known[at] == grams.hashes
    ones = np.ones(int(has.sum()), np.int32)
    return sparse.csr_array((ones, (text[has], at[has])), shape=(len(grams.offsets) - 1, len(known)))
