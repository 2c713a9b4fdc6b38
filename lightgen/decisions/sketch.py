"""What decides about a caption, in place of its text: a map over shards, and the shards' sketches one after the other.

Numbers of one size for each caption stay in memory, lists of n-grams, terms and concepts go to files, which are mapped.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt64

from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.contamination import ContaminationConfig, Screen, contaminated
from lightgen.decisions.equal_words import digests_of
from lightgen.decisions.far_apart import terms_of
from lightgen.decisions.near_duplicates import FILLERS, Marks, NearDuplicateConfig
from lightgen.decisions.shingles import Shingles, Words, content, ends_of, ngrams, read_words
from lightgen.texts import plain_words

Key = UInt64[np.ndarray, "n 2"]
Why = dict[int, str]


@dataclass(frozen=True)
class Sketch:
    """Captions as the decision sees them.

    ids, caption_ids: of the record and of the text, as numbers
    equal: a digest of the plain words, the same for captions that repeat each other
    marks: what near-duplicates are told by
    terms, concepts: what diversity and balance are told by
    why: for contaminated captions, what they are too near to
    """

    ids: Key
    caption_ids: Key
    equal: Key
    marks: Marks
    terms: Shingles
    concepts: Shingles
    why: Why


def sketcher(
    near: NearDuplicateConfig | None, prompts: list[str], contamination: ContaminationConfig
) -> Callable[[pa.Table], Sketch]:
    """The map: what becomes of one shard's `id`, `caption_id` and `caption`, whatever the other shards hold."""
    screen = Screen.of(prompts, contamination)

    def sketch(table: pa.Table) -> Sketch:
        texts: list[str] = table["caption"].to_pylist()
        plain = list(map(plain_words, texts))
        words = read_words(plain)
        suspects = screen.suspects(words)
        found = contaminated([texts[row] for row in suspects], prompts, contamination)
        return Sketch(
            ids=keys_of(table["id"]),
            caption_ids=keys_of(table["caption_id"]),
            equal=digests_of(plain, texts),
            marks=_marks(words, near),
            terms=terms_of(words),
            concepts=all_concepts().found(words),
            why={int(suspects[row]): said for row, said in found.items()},
        )

    return sketch


def _marks(words: Words, near: NearDuplicateConfig | None) -> Marks:
    if near is None:
        none = np.zeros(len(words.offsets) - 1, np.int64)
        return Marks(Shingles(np.zeros(0, np.uint32), ends_of(none)), none.astype(np.uint64), none)
    return Marks(ngrams(words, near.words), *content(words, FILLERS))


def piled(sketches: Iterable[Sketch], folder: Path) -> Sketch:
    """All sketches one after the other; lists of numbers lie in `folder`.

    Memory: 80 bytes a caption, and a text for each contaminated one.
    """
    narrow: dict[str, list[np.ndarray]] = {name: [] for name in ("ids", "caption_ids", "equal", "content", "length")}
    why: Why = {}
    start = 0
    with TemporaryFile(dir=folder) as first, TemporaryFile(dir=folder) as second, TemporaryFile(dir=folder) as third:
        grams, terms, concepts = _Pile(first), _Pile(second), _Pile(third)
        for one in sketches:
            for name, parts in narrow.items():
                parts.append(getattr(one.marks if name in ("content", "length") else one, name))
            for pile, lists in ((grams, one.marks.grams), (terms, one.terms), (concepts, one.concepts)):
                pile.add(lists)
            why |= {start + row: said for row, said in one.why.items()}
            start += len(one.ids)
        piles = [one.read() for one in (grams, terms, concepts)]
    ids, caption_ids, equal = (
        np.concatenate([np.zeros((0, 2), np.uint64), *narrow.pop(name)]) for name in ("ids", "caption_ids", "equal")
    )
    hashes = np.concatenate([np.zeros(0, np.uint64), *narrow.pop("content")])
    length = np.concatenate([np.zeros(0, np.int64), *narrow.pop("length")])
    marks = Marks(piles[0], hashes, length)
    return Sketch(ids, caption_ids, equal, marks, piles[1], piles[2], why)


class _Pile:
    """Lists of numbers in a file of its own, which has no name: it is gone when nobody holds it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.counts = file, [np.zeros(0, np.int64)]

    def add(self, lists: Shingles) -> None:
        self.file.write(np.ascontiguousarray(lists.hashes, np.uint32).data)
        self.counts.append(np.diff(lists.offsets))

    def read(self) -> Shingles:
        """All lists, mapped."""
        offsets = ends_of(np.concatenate(self.counts))
        if not offsets[-1]:
            return Shingles(np.zeros(0, np.uint32), offsets)
        self.file.flush()
        return Shingles(np.memmap(self.file, np.uint32, "r"), offsets)


def keys_of(column: pa.ChunkedArray) -> Key:
    """Ids of 32 hexadecimal digits as two numbers each, which sort as the ids do."""
    arrays = [_digits(array.cast(pa.large_string())) for array in column.chunks if len(array)]
    whole = bytes.fromhex(b"".join(arrays).decode())
    assert len(whole) == 16 * len(column), "ids of 32 hexadecimal digits"
    return np.frombuffer(whole, ">u8").reshape(-1, 2).astype(np.uint64)


def _digits(array: pa.Array) -> bytes:
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return memoryview(data)[int(ends[0]) : int(ends[-1])].tobytes()


def ids_of(keys: Key) -> list[str]:
    """The ids that `keys_of` read."""
    digits = np.ascontiguousarray(keys, ">u8").tobytes().hex()
    return [digits[at : at + 32] for at in range(0, len(digits), 32)]


def in_order(keys: Key) -> Int64[np.ndarray, " n"]:
    """Rows from the smallest id up."""
    return np.lexsort((keys[:, 1], keys[:, 0]))
