"""Near-duplicates by their definition, in plain Python: words by a regular expression, signatures by datasketch."""

import re
from collections.abc import Sequence
from functools import cache

from datasketch import MinHash

from lightgen.decisions.minhash import plan_bands
from lightgen.decisions.near_duplicates import NearDuplicateConfig
from lightgen.decisions.shingles import shingle

LIMIT = 256
FILLERS = {"a", "an", "the", "some", "is", "are", "was", "were", "be", "being"}


def words_of(text: str) -> list[str]:
    return re.findall(r"(?:[0-9a-z]|[^\x00-\x7f])+", text.lower())


def grams_of(text: str, n: int) -> frozenset[tuple[str, ...]]:
    words = words_of(text)
    return frozenset(zip(*(words[at:] for at in range(n)), strict=False)) or frozenset([tuple(words)] if words else [])


class Oracle:
    """Which captions are alike, and which are kept."""

    def __init__(self, texts: Sequence[str], config: NearDuplicateConfig) -> None:
        self.config = config
        self.alike = cache(self._alike)
        self.grams = [grams_of(text, config.words) for text in texts]
        self.words = [words_of(text) for text in texts]
        self.content = [[word for word in words if word not in FILLERS] for words in self.words]
        self.bands, rows = plan_bands(config.threshold, config.recall)
        hashes = shingle(texts, config.words)
        self.keys = []
        for i in range(len(texts)):
            signed = MinHash(num_perm=128, seed=1, hashfunc=int, scheme="affine32")
            signed.update_batch(hashes.of(i).tolist())
            values = signed.hashvalues.tolist()
            self.keys.append([tuple(values[band * rows : (band + 1) * rows]) for band in range(self.bands)])

    def _alike(self, i: int, j: int) -> bool:
        """Whether the rule for short captions lets them count as one, and their similarity is enough."""
        short = min(len(self.words[i]), len(self.words[j])) <= self.config.short_words
        if short and self.content[i] != self.content[j]:
            return False
        both = len(self.grams[i] | self.grams[j])
        return both > 0 and len(self.grams[i] & self.grams[j]) / both >= self.config.threshold

    def node(self, i: int) -> tuple:
        """Captions with the same node are compared once."""
        return self.grams[i], tuple(self.content[i]), len(self.words[i]) <= self.config.short_words

    def buckets(self, members: list[int]) -> list[list[int]]:
        """Buckets of all bands, the crowded ones split by further bands."""
        return [one for band in range(self.bands) for one in self._split(members, band)]

    def _split(self, members: list[int], band: int) -> list[list[int]]:
        groups: dict[tuple, list[int]] = {}
        for i in members:
            groups.setdefault(self.keys[i][band], []).append(i)
        out = []
        for group in groups.values():
            further = len(group) > LIMIT and band + 1 < self.bands
            out += self._split(group, band + 1) if further else [group]
        return out

    def run(self, ids: Sequence[str], keep: Sequence[bool] | None = None) -> list[int]:
        """For each caption the kept one in whose place it goes, or -1."""
        order = sorted(range(len(ids)), key=lambda i: (keep is not None and not keep[i], ids[i]))
        first: dict[tuple, int] = {}
        for i in order:
            first.setdefault(self.node(i), i)
        nodes = [i for i in order if self.grams[i] and first[self.node(i)] == i]
        place = {i: at for at, i in enumerate(nodes)}
        mine: dict[int, list[list[int]]] = {i: [] for i in nodes}
        for bucket in self.buckets(nodes):
            kept: list[int] = []
            for i in bucket:
                mine[i].append(kept)
        out = [-1] * len(ids)
        for i in nodes:
            near = [j for kept in mine[i] for j in kept[-LIMIT:] if self.alike(i, j)]
            if near:
                out[i] = min(near, key=place.__getitem__)
            else:
                for kept in mine[i]:
                    kept.append(i)
        for i in order:
            head = first[self.node(i)]
            if self.grams[i] and head != i:
                out[i] = out[head] if out[head] >= 0 else head
        return out
