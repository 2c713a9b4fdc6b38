"""Too many rejects end a map after its first shards, and odd first shards do not."""

import numpy as np
import pytest

from lightgen.engines.acceptance import Acceptance, least_share
from lightgen.errors import TooManyRejects
from schemas.documents import Receipt

ZERO = "0" * 64


def receipt(rows, rejected):
    return Receipt(
        version="0" * 32, shard=0, fingerprint=ZERO, provenance=ZERO, schema_sha256=ZERO, files=[], rows_in=rows,
        rows_out=rows - rejected, rows_rejected=rejected, reject_reasons={"nonfinite": rejected} if rejected else {},
        started_at="2026-01-01T00:00:00+00:00", seconds=1.0,
    )  # fmt: skip


def test_a_stage_that_cannot_pass_ends_at_its_third_shard():
    watch = Acceptance("generate", 0.05)
    watch.add(receipt(1000, 600))
    watch.add(receipt(1000, 600))
    with pytest.raises(TooManyRejects, match=r"1,800 of the first 3,000 rows rejected \(1,800 nonfinite\)"):
        watch.add(receipt(1000, 600))


def test_a_stage_near_its_limit_goes_on():
    watch = Acceptance("generate", 0.05)
    for _ in range(20):
        watch.add(receipt(100, 6))


def test_few_rows_prove_nothing():
    watch = Acceptance("generate", 0.05)
    for _ in range(5):
        watch.add(receipt(2, 1))


def test_a_stage_within_its_limit_is_never_ended_by_chance():
    random = np.random.default_rng(0)
    for _ in range(200):
        watch = Acceptance("generate", 0.05)
        for rejected in random.binomial(100, 0.05, 30):
            watch.add(receipt(100, int(rejected)))


def test_the_bound_is_wilsons():
    # Brown, Cai and DasGupta 2001: the p at which (found/n - p) is SURE standard deviations of p.
    for found, rows in ((3, 10), (60, 100), (900, 1000)):
        low = least_share(found, rows)
        assert (found / rows - low) / np.sqrt(low * (1 - low) / rows) == pytest.approx(5.0)


def test_no_reject_is_within_any_limit():
    watch = Acceptance("generate", 0.0)
    for rows in range(90, 400):
        watch.add(receipt(rows, 0))
