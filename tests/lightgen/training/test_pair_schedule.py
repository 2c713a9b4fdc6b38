"""Every pair sees every draw once in a cycle, shares of hidden tokens are mixed, and all depends on the step."""

from collections import Counter

import numpy as np
import pytest

from lightgen.model.masking import MaskLaw
from lightgen.training.pair_schedule import PairSchedule, quantile_of_draw


def _steps(schedule: PairSchedule, epochs: int) -> range:
    """Of whole epochs that end with a step."""
    chunk = schedule.batch_size // schedule.ratios
    chunks = epochs * -(-schedule.rows // chunk)
    assert chunks % schedule.ratios == 0, "take other sizes"
    return range(chunks // schedule.ratios)


def _seen(schedule: PairSchedule, steps: range) -> Counter:
    """How often each (pair, draw) is read."""
    read = [schedule(step) for step in steps]
    rows, draws = (np.concatenate(parts) for parts in zip(*read, strict=True))
    return Counter(zip(rows.tolist(), draws.tolist(), strict=True))


@pytest.mark.parametrize(("rows", "batch", "ratios", "draws"), [(24, 8, 4, 5), (24, 12, 1, 3), (60, 12, 3, 6)])
def test_in_a_cycle_every_pair_meets_every_draw_once(rows: int, batch: int, ratios: int, draws: int) -> None:
    schedule = PairSchedule(3, rows, batch, ratios, draws)
    cycle = _steps(schedule, draws)
    assert _seen(schedule, cycle) == Counter({(row, draw): 1 for row in range(rows) for draw in range(draws)})
    again = range(len(cycle), 2 * len(cycle))
    assert _seen(schedule, again) == _seen(schedule, cycle)
    assert schedule(again[0])[0].tolist() != schedule(0)[0].tolist(), "another cycle cuts the pairs in another way"


def test_null_control_one_step_more_repeats_a_draw() -> None:
    schedule = PairSchedule(3, 24, 8, 4, 5)
    more = range(len(_steps(schedule, 5)) + 1)
    assert max(_seen(schedule, more).values()) == 2


def test_what_fills_the_last_chunk_is_all_that_repeats() -> None:
    schedule = PairSchedule(0, 22, 8, 2, 4)  # six chunks of four; two rows fill the last
    seen = _seen(schedule, _steps(schedule, 4))
    assert set(seen) == {(row, draw) for row in range(22) for draw in range(4)}
    repeated = Counter(row for row, _ in seen.elements())
    assert sorted(repeated.values()) == [4] * 20 + [8] * 2


def test_the_papers_run_asks_no_draw_twice() -> None:
    """312 steps of 2,048 among 32,000 pairs are 19.97 epochs, in chunks of 256 that fit."""
    schedule = PairSchedule(42, 32_000, 2048, 8, 20)
    seen = [schedule(step) for step in range(312)]
    pairs = np.concatenate([rows * 20 + draws for rows, draws in seen])
    assert len(np.unique(pairs)) == len(pairs) == 312 * 2048


@pytest.mark.parametrize("draws", [20, None])
def test_shares_of_hidden_tokens_are_mixed_from_step_to_step_and_within_one(draws: int | None) -> None:
    schedule = PairSchedule(1, 96, 16, 4, draws)
    steps = [[schedule.mask_quantile(step, part) for part in range(4)] for step in range(120)]
    means = np.array([np.mean(step) for step in steps])
    rises = (np.diff(means) > 0).mean()
    assert 0.35 < rises < 0.65, "one share an epoch, rising from epoch to epoch, would be 0 or 1"
    assert np.mean([len(set(step)) for step in steps]) > 3
    # Over 20 epochs the law is covered as a whole, and each sixth of them as well.
    everything = np.concatenate(steps)
    for part in np.split(everything, 6):
        assert part.mean() == pytest.approx(0.5, abs=0.12)
    law = MaskLaw()
    assert np.mean([law.ratio(share) for share in everything]) == pytest.approx(0.867, abs=0.01)


def test_all_pairs_of_a_part_share_the_draw_whose_quantile_is_theirs() -> None:
    schedule = PairSchedule(5, 30, 12, 3, 7)
    for step in range(20):
        _, draws = schedule(step)
        for part, of_part in enumerate(np.split(draws, 3)):
            assert set(of_part.tolist()) == {of_part[0]}
            assert schedule.mask_quantile(step, part) == quantile_of_draw(int(of_part[0]), 7)


def test_without_draws_every_epoch_is_a_draw_of_its_own() -> None:
    schedule = PairSchedule(2, 12, 6, 2)
    assert _seen(schedule, range(6)) == Counter({(row, epoch): 1 for row in range(12) for epoch in range(3)})
    assert schedule(0)[0].tolist() != PairSchedule(4, 12, 6, 2)(0)[0].tolist()


def test_fewer_pairs_than_a_batch_are_repeated_to_fill_it() -> None:
    rows, _ = PairSchedule(0, 3, 7)(5)
    assert sorted(np.bincount(rows)) == [2, 2, 3]
