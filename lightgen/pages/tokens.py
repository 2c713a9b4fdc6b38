"""On the page of captions: how much of them lies beyond what text encoders read."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lightgen.corpora.token_budget import LIMITS, token_budget
from lightgen.corpora.tokenizer import TokenizerConfig, counter
from lightgen.errors import ModelError
from lightgen.storage.locations import locate
from lightgen.storage.store import Store
from lightgen.storage.version import Version

SAMPLED = 2000  # captions whose clauses are looked at
SHARDS = 20


def token_facts(version: Version, store: Store) -> dict[str, str]:
    """Shares of captions beyond each limit, of all; and of clauses, of a sample and where the tokenizer is here.

    Empty for captions that no tokenizer has counted.
    """
    if "tokenizer" not in version.plan.config:
        return {}
    over, clauses = _over(version), _clauses(version, store)
    told = {
        f"beyond {limit} tokens": f"{share:.2%} of captions{clauses.get(limit, '')}"
        for limit, share in zip(LIMITS, over, strict=True)
    }
    refused = version.reject_reasons.get("caption_too_long", 0)
    return told | {"refused as too long": f"{refused:,}"}


def _over(version: Version) -> list[float]:
    """Shard by shard, one number a row."""
    counts = np.zeros(len(LIMITS), np.int64)
    for shard in range(version.n_shards):
        tokens = version.table(shard, columns=["tokens"])["tokens"].to_numpy()
        counts += (tokens[:, None] > np.asarray(LIMITS)).sum(axis=0)
    return (counts / max(version.rows, 1)).tolist()


def _clauses(version: Version, store: Store) -> dict[int, str]:
    named: Any = version.plan.config["tokenizer"]
    try:
        there = named if named == "words" else locate(store, named["weights"], TokenizerConfig)
        count = counter(there if isinstance(there, str) else TokenizerConfig.model_validate(there))
    except ModelError:
        return {}  # the tokenizer is not on this machine
    found = token_budget(_sample(version), count)
    return {one.limit: f", {one.clauses:.1%} of clauses" for one in found}


def _sample(version: Version) -> Iterator[str]:
    step = max(1, version.n_shards // SHARDS)
    for shard in range(0, version.n_shards, step):
        yield from version.table(shard, columns=["caption"])["caption"].slice(0, SAMPLED // SHARDS).to_pylist()
