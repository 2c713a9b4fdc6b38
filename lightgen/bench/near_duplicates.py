"""How fast near-duplicates are found: ours and datasketch on the same shingles, in the same run."""

import json
import random
import time
from pathlib import Path

import numpy as np
from datasketch import MinHash, MinHashLSH

from lightgen.decisions.minhash import PERMUTATIONS, SEED, NearDuplicateConfig, near_duplicates, plan_bands
from lightgen.decisions.shingles import shingle

PEER_LIMIT = 20_000
WORDS = tuple(f"word{i}" for i in range(5000))


def bench_near_duplicates(n: int, out: Path | None = None) -> dict[str, float]:
    """Documents a second of both and the ratio; written to `out` as JSON.

    datasketch, which is the slower, gets at most PEER_LIMIT of the documents: its cost a document does not fall with
    more of them. Both sign and band; only ours also verifies and clusters.
    """
    texts = synthetic(n)
    config = NearDuplicateConfig(words=3)
    near_duplicates(texts[:100], config)  # compilation is paid once an installation
    began = time.perf_counter()
    clusters = near_duplicates(texts, config)
    ours = n / (time.perf_counter() - began)
    peer = _datasketch_rate(texts[:PEER_LIMIT], config)
    result = {
        "documents": n,
        "documents_datasketch": min(n, PEER_LIMIT),
        "duplicates": int((clusters != np.arange(n)).sum()),
        "ours_per_s": round(ours),
        "datasketch_per_s": round(peer),
        "ratio": round(ours / peer, 1),
    }
    if out is not None:
        out.write_text(json.dumps(result, indent=1))
    return result


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


def _datasketch_rate(texts: list[str], config: NearDuplicateConfig) -> float:
    bands, rows = plan_bands(config.threshold, config.recall)
    began = time.perf_counter()
    grams = shingle(texts, config.words)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(bands, rows))
    for i in range(len(texts)):
        signed = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=int, scheme="affine32")
        signed.update_batch(grams.of(i).tolist())
        index.query(signed)
        index.insert(str(i), signed)
    return len(texts) / (time.perf_counter() - began)
