"""Who of several generators draws a prompt: by its id alone, in stated proportions, and steadily."""

import hashlib
import math

import numpy as np
import pytest

from lightgen.generators.shares import Part, drawn_by

IDS = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(20_000)]
SHARES = {"dalle3": 0.4, "flux": 0.5, "sd3": 0.1}


def counted(shares: dict[str, float]) -> dict[str, int]:
    places = drawn_by(IDS, shares)
    return {name: int((places == place).sum()) for place, name in enumerate(shares)}


def test_each_generator_draws_its_share_within_the_stated_bound() -> None:
    for name, count in counted(SHARES).items():
        share = SHARES[name]
        assert abs(count - share * len(IDS)) <= 4 * math.sqrt(share * (1 - share) * len(IDS))


def test_only_the_ratios_count() -> None:
    assert np.array_equal(drawn_by(IDS, SHARES), drawn_by(IDS, {name: 30 * share for name, share in SHARES.items()}))


def test_a_prompt_does_not_depend_on_the_others_nor_on_their_order() -> None:
    whole = drawn_by(IDS, SHARES)
    assert np.array_equal(drawn_by(IDS[::-1], SHARES)[::-1], whole)
    assert np.array_equal(np.concatenate([drawn_by(IDS[:7], SHARES), drawn_by(IDS[7:], SHARES)]), whole)


def test_the_order_in_which_generators_are_named_does_not_matter() -> None:
    names = list(SHARES)
    turned = {name: SHARES[name] for name in reversed(names)}
    first = [names[place] for place in drawn_by(IDS, SHARES)]
    assert [list(turned)[place] for place in drawn_by(IDS, turned)] == first


@pytest.mark.parametrize("raised", list(SHARES))
def test_where_one_share_grows_prompts_move_to_it_alone_and_no_more_than_must(raised: str) -> None:
    before, after = drawn_by(IDS, SHARES), drawn_by(IDS, SHARES | {raised: 2 * SHARES[raised]})
    moved = before != after
    assert set(after[moved]) == {list(SHARES).index(raised)}
    grown = 2 * SHARES[raised] / (1 + SHARES[raised]) - SHARES[raised]
    assert abs(int(moved.sum()) - grown * len(IDS)) <= 4 * math.sqrt(grown * (1 - grown) * len(IDS))


def test_a_generator_that_joins_takes_from_all_and_moves_nothing_between_the_others() -> None:
    before, after = drawn_by(IDS, SHARES), drawn_by(IDS, SHARES | {"fourth": 0.2})
    moved = before != after
    assert set(after[moved]) == {3}
    assert set(before[moved]) == {0, 1, 2}


def test_a_hash_of_the_id_alone_would_give_two_generators_the_same_prompts() -> None:
    """The null: without the name in the hash all bids of a prompt are one number, and the largest share takes all."""
    import lightgen.generators.shares as shares

    blind = -np.log(shares._uniform("", IDS))
    assert set(np.argmin([blind / share for share in SHARES.values()], axis=0)) == {1}


def test_the_parts_of_all_generators_are_all_prompts_once() -> None:
    taken = [Part(name=name, shares=SHARES).takes(IDS) for name in SHARES]
    assert (np.sum(taken, axis=0) == 1).all()
    assert sum(Part(name=name, shares=SHARES).share for name in SHARES) == pytest.approx(1)


def test_who_draws_a_prompt_stays_for_good() -> None:
    """Else a later release would buy images again."""
    assert drawn_by(IDS[:12], SHARES).tolist() == [1, 2, 0, 0, 1, 0, 0, 2, 2, 1, 1, 1]
