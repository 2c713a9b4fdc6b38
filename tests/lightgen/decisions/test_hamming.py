"""Repeats of 64-bit hashes against their definition, on random and on hostile sets, with every plan of tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgen.decisions.hamming import key_masks, plan, repeated

BITS = (0, 1, 2, 3, 4, 6, 9, 14, 20, 40, 64)


def brute_force(hashes: np.ndarray, groups: np.ndarray, bits: int) -> list[int]:
    """The definition: the first kept hash of the group within `bits`, else the hash is kept itself."""
    kept: list[int] = []
    out = []
    for i in range(len(hashes)):
        near = [k for k in kept if groups[k] == groups[i] and (int(hashes[k]) ^ int(hashes[i])).bit_count() <= bits]
        out.append(near[0] if near else -1)
        kept += [] if near else [i]
    return out


def flipped(rng: np.random.Generator, n: int, most: int, center: int = 0) -> np.ndarray:
    """Hashes in a ball: up to `most` random bits of the centre are flipped."""
    out = []
    for _ in range(n):
        bits = rng.choice(64, rng.integers(0, most + 1), replace=False)
        out.append(center ^ sum(1 << int(bit) for bit in bits))
    return np.array(out, np.uint64)


def sets(seed: int) -> dict[str, np.ndarray]:
    """Hashes that are far apart, equal, in one ball, in a few balls, and that agree in half of their bits."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 120))
    anywhere = rng.integers(0, 2**64, n, dtype=np.uint64)
    return {
        "random": anywhere,
        "equal": np.full(n, anywhere[0]),
        "ball": flipped(rng, n, int(rng.integers(1, 9)), int(anywhere[0])),
        "balls": anywhere[rng.integers(0, min(n, 5), n)] ^ flipped(rng, n, 6),
        "low half": anywhere & np.uint64(0xFFFFFFFF),
        "one bit": np.uint64(1) << rng.integers(0, 64, n, dtype=np.uint64),
    }


@pytest.mark.parametrize("seed", range(60))
def test_what_is_kept_and_whom_the_others_repeat_is_the_definition(seed: int) -> None:
    rng = np.random.default_rng([1, seed])
    bits = int(rng.choice(BITS))
    for name, hashes in sets(seed).items():
        groups = rng.integers(-3, int(rng.choice([-2, 0, 30])), len(hashes))
        assert repeated(hashes, groups, bits).tolist() == brute_force(hashes, groups, bits), (name, bits)


@settings(max_examples=300)
@given(
    hashes=st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 15)), max_size=25),
    bits=st.integers(0, 6),
    agreeing=st.integers(0, 3),
)
def test_every_plan_of_tables_finds_the_same(hashes: list[int], bits: int, agreeing: int) -> None:
    values, groups = np.array(hashes, np.uint64), np.zeros(len(hashes), np.int64)
    assert repeated(values, groups, bits, agreeing).tolist() == brute_force(values, groups, bits)


@pytest.mark.parametrize(("bits", "agreeing"), [(0, 1), (1, 1), (3, 2), (4, 1), (4, 2), (7, 1), (15, 1)])
def test_thousands_of_hashes_with_near_ones_among_them_are_the_definition(bits: int, agreeing: int) -> None:
    rng = np.random.default_rng(bits)
    anywhere = rng.integers(0, 2**64, 800, dtype=np.uint64)
    hashes = rng.permutation(np.concatenate([anywhere, anywhere ^ flipped(rng, 800, bits + 2), anywhere[:99]]))
    groups = rng.integers(0, 2, len(hashes))
    found = repeated(hashes, groups, bits, agreeing)
    assert found.tolist() == brute_force(hashes, groups, bits)
    assert np.array_equal(repeated(hashes, groups, bits), found)
    assert (found >= 0).sum() > 50


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_hashes_within_the_bits_meet_in_some_table_and_without_one_of_the_tables_they_need_not(bits: int) -> None:
    masks = key_masks(bits, 1 if bits > 4 else 2)
    rng = np.random.default_rng(bits)
    differing = flipped(rng, 3000, 0) ^ np.array(
        [sum(1 << int(bit) for bit in rng.choice(64, bits, replace=False)) for _ in range(3000)], np.uint64
    )

    def meet(masks: np.ndarray) -> float:
        return ((differing[:, None] & masks) == 0).any(axis=1).mean()

    assert meet(masks) == 1
    assert meet(masks[:-1]) < 1


def test_tables_are_made_where_they_pay() -> None:
    million = 10**6
    assert plan(million, million**2 / 2, 4) > 0
    assert plan(million, million**2 / 2, 32) == 0, "too many tables would be needed"
    assert plan(million, million, 4) == 0, "groups of two hashes are compared at once"
    assert plan(0, 0, 0) == 0
