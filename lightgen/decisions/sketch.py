"""What decides about a caption, in place of its text: a map over shards, and the shards' sketches one after the other.

Hashes and lengths stay in memory; ids, digests, and lists of n-grams, terms and concepts go to files, which are mapped.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt64

from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.contamination import ContaminationConfig, Screen, contaminated
from lightgen.decisions.equal_words import word_digests
from lightgen.decisions.far_apart import terms_of
from lightgen.decisions.mapped import Pile, forget
from lightgen.decisions.near_duplicates import FILLERS, Marks, NearDuplicateConfig
from lightgen.decisions.plain_column import plain_column
from lightgen.decisions.shingles import Shingles, Words, content, ends_of, ngrams, read_words
from lightgen.seeds import hex_texts

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
        texts = table["caption"].cast(pa.large_string()).combine_chunks()
        plain = plain_column(texts)
        words = read_words(plain)
        suspects = screen.suspects(words)
        found = contaminated(texts.take(pa.array(suspects)).to_pylist(), prompts, contamination)
        return Sketch(
            ids=keys_of(table["id"]),
            caption_ids=keys_of(table["caption_id"]),
            equal=word_digests(plain, texts),
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
    """All sketches one after the other; keys, and lists of numbers, lie in `folder`.

    Memory: 40 bytes a caption, 64 while they are gathered, and a text for each contaminated one.
    """
    keys = {name: Pile(folder, np.uint64, (2,)) for name in ("ids", "caption_ids", "equal")}
    lists = {name: _Lists(Pile(folder, np.uint32)) for name in ("grams", "terms", "concepts")}
    hashes, lengths = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    why: Why = {}
    start = 0
    for one in sketches:
        for name, pile in keys.items():
            pile.add(getattr(one, name))
        for name, pile in lists.items():
            pile.add(one.marks.grams if name == "grams" else getattr(one, name))
        hashes.append(one.marks.content)
        lengths.append(one.marks.length)
        why |= {start + row: said for row, said in one.why.items()}
        start += len(one.ids)
    found = {name: pile.read() for name, pile in lists.items()}
    marks = Marks(found["grams"], np.concatenate(hashes), np.concatenate(lengths))
    mapped = {name: pile.read() for name, pile in keys.items()}
    return Sketch(**mapped, marks=marks, terms=found["terms"], concepts=found["concepts"], why=why)


@dataclass
class _Lists:
    """Lists of numbers, which go to a file."""

    pile: Pile
    counts: list[np.ndarray] = field(default_factory=lambda: [np.zeros(0, np.int64)])

    def add(self, lists: Shingles) -> None:
        self.pile.add(lists.hashes)
        self.counts.append(np.diff(lists.offsets))

    def read(self) -> Shingles:
        """All lists, mapped."""
        return Shingles(self.pile.read(), ends_of(np.concatenate(self.counts)))


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


def ids_of(keys: Key) -> pa.StringArray:
    """The ids that `keys_of` read."""
    return hex_texts(np.ascontiguousarray(keys, ">u8").view(np.uint8))


def in_order(keys: Key) -> Int64[np.ndarray, " n"]:
    """Rows from the smallest id up."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    forget(keys)
    return order
