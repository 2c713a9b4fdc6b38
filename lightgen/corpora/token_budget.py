"""How much of captions lies beyond what a text encoder reads, by its own tokenizer.

The limits are those that students meet: 77 of CLIP, 128 of the paper's T5, 256 and 512 of later ones. A clause is what
stands between marks of punctuation; it is lost where its last token is not read.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lightgen.corpora.base import Corpus
from lightgen.corpora.cleaning import Limits, clean
from lightgen.corpora.places import S3
from lightgen.corpora.tokenizer import CountAll

LIMITS = (77, 128, 256, 512)
SAMPLE = 1000  # captions of each corpus, its first
ANY_LENGTH = 1 << 30
CLAUSE = re.compile(r"[,.;:!?…。，！？]+(?=\s|$)|$")


@dataclass(frozen=True)
class Beyond:
    """Shares of captions and of clauses that are not wholly among the first `limit` tokens."""

    limit: int
    captions: float
    clauses: float

    def __str__(self) -> str:
        return f"{self.captions:.1%} of captions and {self.clauses:.1%} of clauses beyond {self.limit} tokens"


def token_budget(texts: Iterable[str], count: CountAll) -> list[Beyond]:
    """The shares for each of LIMITS. Memory: a number a clause of the limits it breaks."""
    captions, clauses = 0, 0
    cut, lost = np.zeros(len(LIMITS), int), np.zeros(len(LIMITS), int)
    for text in texts:
        starts, marks = count.starts(text)
        ends = [found.start() for found in CLAUSE.finditer(text) if text[: found.start()].strip()]
        needed = np.searchsorted(starts, ends) + marks
        captions, clauses = captions + 1, clauses + len(ends)
        over = needed[:, None] > np.asarray(LIMITS)
        cut, lost = cut + over.any(axis=0), lost + over.sum(axis=0)
    shares = zip(LIMITS, cut / max(captions, 1), lost / max(clauses, 1), strict=True)
    return [Beyond(limit, float(of_captions), float(of_clauses)) for limit, of_captions, of_clauses in shares]


def sampled(corpora: Sequence[Corpus], limits: Limits, count: CountAll) -> Iterator[str]:
    """The first captions of each corpus, however long; those on S3 are left out, as a file is fetched whole there."""
    free = limits.model_copy(update={"max_characters": ANY_LENGTH, "max_tokens": ANY_LENGTH})
    for corpus in corpora:
        if corpus.given.startswith(S3):
            continue
        for row in itertools.islice(corpus.read(), SAMPLE):
            found = None if row.refused else clean(row.text, free, lambda _: 0)
            if found is not None and not isinstance(found, tuple):
                yield found.caption
