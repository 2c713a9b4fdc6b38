"""Caps on pairs: the clearest stay, whatever the order, and what is refused says for what."""

import random
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest

from lightgen.decisions.caps import Cap, capped, caption_clusters
from lightgen.decisions.embed import hashed_terms
from lightgen.decisions.far_apart import Rarity, terms_of
from lightgen.decisions.shingles import read_words


def pairs(rows: list[dict]) -> pa.Table:
    defaults = {"caption": "a dog", "host": "", "source": ""}
    return pa.Table.from_pylist([{**defaults, **row} for row in rows])


def some(count: int, seed: int) -> list[dict]:
    dice = random.Random(seed)
    things = ["dog", "cat", "red car", "blue car", "tall tree"]
    return [
        {
            "id": f"{place:04d}", "margin": dice.choice([0.1, 0.2, 0.3, 0.4]), "host": dice.choice(["a", "b", "c", ""]),
            "source": dice.choice(["x", "y"]), "caption": f"a {dice.choice(things)} number {dice.randint(0, 9)}",
        }
        for place in range(count)
    ]  # fmt: skip


def one_by_one(rows: list[dict], caps: list[Cap], clusters: int) -> dict[str, str]:
    """The oracle: for each pair, how many of those that stay and lead by more share its value."""
    refused: dict[str, str] = {}
    numbers = caption_clusters([row["caption"] for row in rows], clusters)
    values = [row | {"cluster": number + 1} for row, number in zip(rows, numbers, strict=True)]
    stay: list[dict] = []
    for row in sorted(values, key=lambda row: (-row["margin"], row["id"])):
        shared = [sum(other[cap.column] == row[cap.column] for other in stay) for cap in caps]
        over = [cap for cap, count in zip(caps, shared, strict=True) if row[cap.column] != "" and count >= cap.most]
        if over:
            refused[row["id"]] = over[0].reason
        else:
            stay.append(row)
    return refused


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("columns", [["host"], ["host", "source"], ["source", "host", "cluster"]])
def test_caps_refuse_what_counting_one_by_one_refuses_in_any_order(seed: int, columns: list[str]) -> None:
    rows = some(200, seed)
    caps = [Cap(column=column, most=most) for column, most in zip(columns, [30, 50, 8], strict=False)]
    expected = one_by_one(rows, caps, 6)
    assert expected
    for order in (rows, rows[::-1], random.Random(seed).sample(rows, len(rows))):
        found = capped(pairs(order), caps, 6)
        assert {id: reason for id, (reason, _) in found.items()} == expected


def test_the_clearest_stay_and_the_detail_says_what_they_are_beyond() -> None:
    rows = [{"id": str(at), "margin": margin, "host": "a.org"} for at, margin in enumerate([0.1, 0.9, 0.5])]
    assert capped(pairs(rows), [Cap(column="host", most=2)], 0) == {
        "0": ("cap_host", "host a.org has 2 pairs of larger margins")
    }


def test_pairs_without_a_host_are_under_no_cap_on_hosts() -> None:
    rows = [{"id": str(at), "margin": 0.5} for at in range(9)]
    assert capped(pairs(rows), [Cap(column="host", most=1)], 0) == {}


def test_no_pairs_are_beyond_nothing() -> None:
    empty = pairs([{"id": "0", "margin": 0.5}]).slice(0, 0)
    assert capped(empty, [Cap(column="host", most=1), Cap(column="cluster", most=1)], 3) == {}


def test_captions_of_one_cluster_are_nearer_to_its_centre_than_to_any_other() -> None:
    captions = [row["caption"] for row in some(120, 3)]
    numbers = caption_clusters(captions, 5)
    assert set(numbers) == set(range(5))
    members = defaultdict(set)
    for caption, number in zip(captions, numbers, strict=True):
        members[caption].add(number)
    assert all(len(of) == 1 for of in members.values()), "equal captions are apart"
    assert (caption_clusters(captions[::-1], 5)[::-1] == numbers).all()
    distinct = sorted(set(captions))
    terms = terms_of(read_words(distinct))
    vectors = hashed_terms(terms, Rarity.of(terms), 4096)
    products = vectors @ vectors.T
    number_of = dict(zip(captions, numbers, strict=True))
    same = np.array([[number_of[a] == number_of[b] for a in distinct] for b in distinct])
    assert products[same].mean() > products[~same].mean()


def test_a_caption_near_to_no_centre_is_a_kind_of_its_own() -> None:
    """Under the cap of another kind it would be refused for captions with which it shares nothing."""
    numbers = caption_clusters(["red dog", "red cat", "zebra", "zebra", "tall tree"], 1).tolist()
    assert numbers[:2] == [0, 0]
    assert numbers[2] == numbers[3] > 0
    assert len(set(numbers)) == 3
    assert len(caption_clusters([], 3)) == 0
