"""How fast near-duplicates are found: ours and datasketch on the same shingles, in the same run."""

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from datasketch import MinHash, MinHashLSH

from lightgen.decisions.minhash import PERMUTATIONS, SEED, plan_bands
from lightgen.decisions.near_duplicates import NearDuplicateConfig, near_duplicates
from lightgen.decisions.shingles import shingle
from lightgen.seeds import content_id

PEER_LIMIT = 20_000
WORDS = tuple(f"word{i}" for i in range(5000))


def bench_near_duplicates(n: int, out: Path | None = None, rounds: int = 3) -> dict[str, float]:
    """Documents a second of both, medians of rounds that alternate the order, and the spread of their ratio; as JSON.

    datasketch, which is the slower, gets at most PEER_LIMIT of the documents: its cost a document does not fall with
    more of them. Both sign and band; only ours also verifies and decides.
    """
    texts = synthetic(n)
    ids = [content_id(number) for number in range(n)]
    config = NearDuplicateConfig(words=3, short_words=0)
    near_duplicates(ids[:100], texts[:100], config)  # compilation is paid once an installation

    def ours() -> float:
        return _rate(n, lambda: near_duplicates(ids, texts, config))

    def peer() -> float:
        return _rate(min(n, PEER_LIMIT), lambda: _datasketch(texts[:PEER_LIMIT], config))

    pairs = [(ours(), peer()) if at % 2 else (peer(), ours())[::-1] for at in range(rounds)]
    ratios = sorted(mine / theirs for mine, theirs in pairs)
    result = {
        "documents": n,
        "documents_datasketch": min(n, PEER_LIMIT),
        "duplicates": int((near_duplicates(ids, texts, config).refused >= 0).sum()),
        "ours_per_s": round(median(mine for mine, _ in pairs)),
        "datasketch_per_s": round(median(theirs for _, theirs in pairs)),
        "ratio_min": round(ratios[0], 1),
        "ratio": round(median(ratios), 1),
        "ratio_max": round(ratios[-1], 1),
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


def _rate(documents: int, run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return documents / (time.perf_counter() - began)


def _datasketch(texts: list[str], config: NearDuplicateConfig) -> None:
    bands, rows = plan_bands(config.threshold, config.recall)
    grams = shingle(texts, config.words)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(bands, rows))
    for i in range(len(texts)):
        signed = MinHash(num_perm=PERMUTATIONS, seed=SEED, hashfunc=int, scheme="affine32")
        signed.update_batch(grams.of(i).tolist())
        index.query(signed)
        index.insert(str(i), signed)
