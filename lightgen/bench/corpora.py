"""How fast published layouts are read into batches, beside json.loads or pyarrow alone on the same file; and cleaning.

Rounds alternate the order. Cleaning is measured by the batch, as stage `source` does it, against one by one.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from lightgen.bench.layouts import layouts
from lightgen.corpora.cleaning import Limits, clean, clean_all
from lightgen.corpora.raw import BATCH_ROWS, binary
from lightgen.corpora.rehearsal import captions
from lightgen.corpora.tokenizer import counter

ODD = ("Tom &amp; <b>Jerry</b> poster", "it\u2019s a caf\u00e9 \u2013 at night", "  two   spaces ")
TURN = 0.05  # s that one way is read at least before the other has its turn
ODD_SHARE = 0.1  # of web captions that need repair, as in LAION


@dataclass(frozen=True)
class Reading:
    """Rows a second of one way, medians, and by how much ours is faster in each round: least, median, most."""

    name: str
    ours: float
    peer: float
    ratios: tuple[float, float, float]


def bench_corpora(rows: int, rounds: int = 5) -> list[Reading]:
    """Every layout that has a peer, then cleaning."""
    texts = _texts(rows)
    with tempfile.TemporaryDirectory() as folder:
        found = [_measured(one.name, rows, one.read, one.peer, rounds) for one in layouts(Path(folder), texts)]
    return [*found, _cleaning(texts, rounds)]


def _cleaning(texts: Sequence[str], rounds: int) -> Reading:
    raw = [text.encode() for text in texts]
    batches = [binary(raw[at : at + BATCH_ROWS]) for at in range(0, len(raw), BATCH_ROWS)]
    limits, count = Limits(), counter("words")
    return _measured(
        "cleaning, by the batch against one by one",
        len(texts),
        lambda: [clean_all(batch, limits, count) for batch in batches],
        lambda: [clean(text, limits, count) for text in raw],
        rounds,
    )


def _measured(name: str, rows: int, ours: Callable[[], object], peer: Callable[[], object], rounds: int) -> Reading:
    mine, theirs = list[float](), list[float]()
    turns = [(mine, ours), (theirs, peer)]
    for at in range(rounds):
        for rates, run in turns if at % 2 else turns[::-1]:
            rates.append(_rate(rows, run))
    ratios = sorted(own / other for own, other in zip(mine, theirs, strict=True))
    spread = (ratios[0], statistics.median(ratios), ratios[-1])
    return Reading(name, statistics.median(mine), statistics.median(theirs), spread)


def _rate(rows: int, run: Callable[[], object]) -> float:
    """Rows a second of one turn: as many readings as take a twentieth of a second, for a small file takes less."""
    began, readings, taken = time.process_time(), 0, 0.0
    while taken < TURN:
        run()
        readings, taken = readings + 1, time.process_time() - began
    return readings * rows / taken


def _texts(rows: int) -> list[str]:
    """Captions of web length, of which a tenth needs repair."""
    random, known = Random(0), captions("bench")
    return [
        random.choice(ODD) if random.random() < ODD_SHARE else f"{random.choice(known)}, number {row}"
        for row in range(rows)
    ]
