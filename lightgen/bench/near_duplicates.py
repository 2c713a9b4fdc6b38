"""How fast near-duplicates are found: ours and others on the same captions, in turns in the same run."""

import json
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH

from lightgen.decisions.minhash import PERMUTATIONS, SEED, plan_bands
from lightgen.decisions.near_duplicates import NearDuplicateConfig, marks_of, near_duplicates
from lightgen.decisions.recall import recall
from lightgen.decisions.shingles import shingle
from lightgen.seeds import content_id

PEER_LIMIT = 20_000
WORDS = tuple(f"word{i}" for i in range(5000))
CHILD = Path(__file__).with_name("rensa_child.py")


@dataclass(frozen=True)
class NearRate:
    """Captions a second of one way, the median, and by how many times ours is faster: least, median, most."""

    name: str
    rows: int
    rows_per_s: float
    ratios: tuple[float, float, float]


@dataclass(frozen=True)
class NearBench:
    """The ways, ours first; captions that ours refuses, and (pairs of a sample at the threshold, those found)."""

    rates: list[NearRate]
    refused: int
    recall: tuple[int, int]


def bench_near_duplicates(
    n: int, rounds: int = 3, rensa: str | None = None, text_dedup: str | None = None
) -> NearBench:
    """All ways in turns, whose order is reversed every second round.

    datasketch, which is the slowest, gets at most PEER_LIMIT of the captions: its cost a caption does not fall with
    more of them. `rensa` and `text_dedup` are Pythons that have them. The way of rensa is its own README's, with 128
    permutations; of text-dedup its command's, of which signing, banding and clustering count. All sign and band; only
    ours also verifies and decides.
    """
    texts = synthetic(n)
    ids = [content_id(number) for number in range(n)]
    config = NearDuplicateConfig(words=3, short_words=0)
    near_duplicates(ids[:100], texts[:100], config)  # compilation is paid once an installation
    few = min(n, PEER_LIMIT)
    ways: dict[str, tuple[int, Callable[[], float]]] = {
        "lightgen": (n, lambda: _seconds(lambda: near_duplicates(ids, texts, config))),
        "datasketch": (few, lambda: _seconds(lambda: _datasketch(texts[:few], config))),
    }
    if rensa is not None:
        ways["rensa"] = (n, lambda: _rensa(rensa, texts, config.threshold))
    if text_dedup is not None:
        ways["text-dedup"] = (n, lambda: _text_dedup(text_dedup, texts, config))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in list(ways) if turn % 2 else list(ways)[::-1]:
            rows, run = ways[name]
            rates[name].append(rows / run())
    marks = marks_of(texts, config)
    found = recall(marks, np.argsort(np.array(ids, "S")), config)
    refused = int((near_duplicates(ids, texts, config).refused >= 0).sum())
    return NearBench([_rate(name, ways[name][0], rates) for name in ways], refused, (found.pairs, found.found))


def _rate(name: str, rows: int, rates: dict[str, list[float]]) -> NearRate:
    ratios = sorted(mine / theirs for mine, theirs in zip(rates["lightgen"], rates[name], strict=True))
    return NearRate(name, rows, median(rates[name]), (ratios[0], median(ratios), ratios[-1]))


def synthetic(n: int, seed: int = 0) -> list[str]:
    """Captions of 8 to 50 words; one in six is an earlier one with a word changed."""
    rng = random.Random(seed)
    texts: list[list[str]] = []
    for _ in range(n):
        if texts and rng.random() < 1 / 6:
            words = list(rng.choice(texts))
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        else:
            words = rng.choices(WORDS, k=rng.randint(8, 50))
        texts.append(words)
    return [" ".join(words) for words in texts]


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _rensa(python: str, texts: list[str], threshold: float) -> float:
    """Seconds from a list of texts to who is a duplicate, in a process of its own."""
    asked = json.dumps({"texts": texts, "threshold": threshold, "permutations": PERMUTATIONS})
    done = subprocess.run([python, str(CHILD)], input=asked, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["seconds"])


def _text_dedup(python: str, texts: list[str], config: NearDuplicateConfig) -> float:
    """Seconds that its command reports for MinHashing, Clustering and Filtering, with our bands and a fast hash."""
    bands, rows = plan_bands(config.threshold, config.recall)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({"text": texts}), f"{folder}/texts.parquet")
        asked = {
            "path": "parquet", "data_files": f"{folder}/texts.parquet", "split": "train", "column": "text",
            "cache_dir": f"{folder}/cache", "output": f"{folder}/out", "num_perm": PERMUTATIONS, "b": bands, "r": rows,
            "threshold": config.threshold, "ngram": config.words, "min_length": 1, "hash_func": "xxh3", "num_proc": 2,
        }  # fmt: skip
        command = [python, "-m", "text_dedup.minhash", *(f"--{name}={value}" for name, value in asked.items())]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = dict(re.findall(r"(\w+)\s*: ([\d.]+)s", done.stdout + done.stderr))
    return sum(float(told[phase]) for phase in ("MinHashing", "Clustering", "Filtering"))


def _datasketch(texts: list[str], config: NearDuplicateConfig) -> None:
    bands, rows = plan_bands(config.threshold, config.recall)
    grams = shingle(texts, config.words)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(bands, rows))
    for i in range(len(texts)):
        signed = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=int, scheme="affine32")
        signed.update_batch(grams.of(i).tolist())
        index.query(signed)
        index.insert(str(i), signed)
