"""DPO against float64 numpy and its invariants; cached reference errors equal live ones."""

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from lightgen.model import blocks
from lightgen.model.flops import time_flops
from lightgen.model.masking import MaskLaw
from lightgen.model.precision import TrainingPrecision, mixed_precision
from lightgen.model.student import Student
from lightgen.training.data import FeaturesInMemory
from lightgen.training.objectives import Metrics, Microbatch
from lightgen.training.preference import (
    LiveReference,
    PairErrorEstimator,
    PairWeights,
    Preference,
    cache_reference,
    label_coins,
    preference_loss,
)
from tests.lightgen.training.tiny_run import tiny_student

STEP = 3  # one whose two parts hide differently


@pytest.fixture
def objective(student: Student, pairs: FeaturesInMemory) -> Preference:
    reference = LiveReference(copy.deepcopy(student).requires_grad_(False))
    return Preference(pairs, reference, PairErrorEstimator(copies=2, seed=0), batch_size=6, beta=500.0)


def _loss(objective: Preference, student: Student, step: int) -> tuple[torch.Tensor, Metrics]:
    rows, epochs = objective.schedule()(step)
    return objective.loss(student, objective.features.batch(rows, epochs), Microbatch(step))


def _live(objective: Preference) -> Student:
    assert isinstance(objective.reference, LiveReference)
    return objective.reference.student


def test_dpo_starts_at_ln_2_with_every_pair_tied(student: Student, objective: Preference) -> None:
    loss, metrics = _loss(objective, student, 0)
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert float(metrics["margin"]) == float(metrics["winner_drift"]) == float(metrics["negative"]) == 0.0
    assert float(metrics["accuracy"]) == 0.5


def test_dpo_loss_and_health_equal_numpy() -> None:
    generator = np.random.default_rng(0)
    policy, reference = generator.random((2, 7)), generator.random((2, 7))
    inside = -0.5 * 9.0 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    expected = np.log1p(np.exp(-inside)).mean()
    loss, metrics = preference_loss(torch.from_numpy(policy), torch.from_numpy(reference), beta=9.0)
    assert float(loss) == pytest.approx(expected, rel=1e-9)
    assert float(metrics["accuracy"]) == pytest.approx((inside > 0).mean())
    assert float(metrics["negative"]) == pytest.approx((inside < 0).mean())
    assert float(metrics["loser_drift"]) == pytest.approx((policy[1] - reference[1]).mean())
    for name, share in (("margin_p10", 10), ("margin_p50", 50), ("margin_p90", 90)):
        assert float(metrics[name]) == pytest.approx(np.percentile(inside, share), rel=1e-5)


def test_an_anchored_loss_equals_numpy_and_counts_only_winners_that_got_worse() -> None:
    generator = np.random.default_rng(2)
    policy, reference = generator.random((2, 7)), generator.random((2, 7))
    drift = policy - reference
    assert 0 < (drift[0] > 0).sum() < 7
    inside = -0.5 * 9.0 * (drift[0] - drift[1] + 3.0 * np.maximum(drift[0], 0))
    sides = torch.from_numpy(policy), torch.from_numpy(reference)
    loss, metrics = preference_loss(*sides, 9.0, anchor=3.0)
    plain, of_plain = preference_loss(*sides, 9.0)
    assert float(loss) == pytest.approx(np.log1p(np.exp(-inside)).mean(), rel=1e-9)
    assert float(loss) > float(plain)
    assert metrics["margin"] == of_plain["margin"], "what is logged is the preference, without the anchor"


def test_with_an_anchor_winner_and_loser_are_not_forgotten_together() -> None:
    """Without one only the difference counts, so that both errors may rise; with one the winner's may not."""
    policy = torch.tensor([[1.0], [1.5]])
    for anchor, raises_winner in ((0.0, False), (4.0, True)):
        shifted = policy + 0.5
        here, there = (
            float(preference_loss(each, torch.ones(2, 1), 2.0, anchor=anchor)[0]) for each in (policy, shifted)
        )
        assert (there > here + 1e-6) is raises_winner


def test_swapping_flips_the_sign_and_shifts_cancel() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.rand(2, 7, generator=generator), torch.rand(2, 7, generator=generator)
    _, there = preference_loss(policy, reference, 5.0)
    _, back = preference_loss(policy.flip(0), reference.flip(0), 5.0)
    assert float(there["margin"]) == pytest.approx(-float(back["margin"]), rel=1e-6)
    shifted, _ = preference_loss(policy + 0.25, reference, 5.0)
    assert float(shifted) == pytest.approx(float(preference_loss(policy, reference, 5.0)[0]), rel=1e-5)


def test_each_pair_has_its_own_sigmoid() -> None:
    policy, reference = torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.zeros(2, 2)
    loss, _ = preference_loss(policy, reference, 2.0)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(2))) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_reference_has_no_gradient_and_a_step_prefers_the_winner(student: Student, objective: Preference) -> None:
    reference = _live(objective)
    before = [parameter.clone() for parameter in reference.parameters()]
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        _loss(objective, student, 0)[0].backward()
        optimizer.step()
    loss, metrics = _loss(objective, student, 0)
    assert float(loss.detach()) < math.log(2)
    assert float(metrics["margin"]) > 0
    assert all(parameter.grad is None for parameter in reference.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, reference.parameters(), strict=True))


def test_winner_and_loser_share_mask_and_noise(student: Student, objective: Preference) -> None:
    inputs = []
    for each in (student, _live(objective)):
        each.head.register_forward_hook(lambda _, given, __: inputs.append(given))
    _loss(objective, student, 2)
    assert len(inputs) == 4  # reference: winner, loser; policy: winner, loser
    assert all(torch.equal(times, inputs[0][1]) for _, times, _ in inputs)
    assert torch.equal(inputs[0][0], inputs[2][0])
    assert torch.equal(inputs[1][0], inputs[3][0])
    assert not torch.equal(inputs[0][0], inputs[1][0])
    twins = objective.features.mean[:, :1].expand(-1, 2, -1, -1, -1)  # type: ignore[attr-defined]
    same = replace(objective, features=replace(objective.features, mean=twins))  # type: ignore[type-var]
    inputs.clear()
    _loss(same, student, 2)
    assert all(torch.equal(noisy, inputs[0][0]) for noisy, _, _ in inputs)


def test_dropout_is_off_in_dpo(student: Student, objective: Preference) -> None:
    student.train()
    _loss(objective, student, 0)
    assert not student.training


@pytest.mark.parametrize("batch_size", [5, 12])
def test_a_cached_reference_equals_the_live_one(student: Student, objective: Preference, batch_size: int) -> None:
    """For every pair and epoch, however the pairs were put into batches; epochs beyond the draws come back to them."""
    bounded = replace(objective, estimator=replace(objective.estimator, draws=3))
    reference = _live(objective)
    cached = replace(bounded, reference=cache_reference(reference, bounded.features, bounded.estimator, batch_size))
    other = Student(student.config).init(8)
    other.load_state_dict({name: value + 0.01 for name, value in student.state_dict().items()})
    seen = []
    for step in range(8):  # two steps an epoch: epochs 0, 1, 2 and 0 again
        live, stored = (_loss(each, other, step) for each in (bounded, cached))
        torch.testing.assert_close(stored[0], live[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(stored[1]["margin"], live[1]["margin"], rtol=1e-3, atol=1e-4)
        seen.append(float(live[1]["winner_error"]))
    assert len({round(error, 6) for error in seen[:6]}) == 6


def test_null_control_another_draw_has_other_errors(student: Student, objective: Preference) -> None:
    bounded = replace(objective, estimator=replace(objective.estimator, draws=3))
    table = cache_reference(_live(objective), bounded.features, bounded.estimator, 12).table
    assert float((table[:, 0] - table[:, 1]).abs().min()) > 0
    assert float((table[:, 0] - table[:, 2]).abs().mean()) > 0.01


def test_a_pair_that_was_never_cached_is_noticed(student: Student, objective: Preference) -> None:
    estimator = replace(objective.estimator, draws=1)
    cached = cache_reference(_live(objective), objective.features, estimator, 12)
    cached = replace(cached, ids=cached.ids + 1)
    with pytest.raises(RuntimeError, match="nothing is known of"):
        _loss(replace(objective, estimator=estimator, reference=cached), student, 0)


def test_weighted_pairs_equal_numpy() -> None:
    generator = np.random.default_rng(1)
    policy, reference, margins = generator.random((2, 9)), generator.random((2, 9)), generator.random(9)
    margins[0], margins[1] = 40.0, 1e-9
    share = np.clip(margins / margins.mean(), 0.25, 4.0)
    inside = -0.5 * 9.0 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    expected = (share / share.mean() * np.log1p(np.exp(-inside))).mean()
    ids = torch.from_numpy(generator.permutation(9))
    weights = PairWeights.of_margins(ids, torch.from_numpy(margins)).of(ids)
    assert float(weights.mean()) == pytest.approx(1.0, abs=1e-6)
    loss, _ = preference_loss(torch.from_numpy(policy), torch.from_numpy(reference), 9.0, weights)
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_equal_margins_weigh_as_none_do(student: Student, objective: Preference) -> None:
    ids = objective.features.batch(np.arange(len(objective.features)), np.zeros(len(objective.features), int)).ids
    weighted = replace(objective, weights=PairWeights.of_margins(ids, torch.full((len(ids),), 0.3)))
    found, plain = (float(_loss(one, student, 0)[0].detach()) for one in (weighted, objective))
    assert found == pytest.approx(plain, rel=1e-6)


def test_a_pair_without_a_weight_is_a_fault() -> None:
    weights = PairWeights.of_margins(torch.tensor([3, 5]), torch.ones(2))
    with pytest.raises(RuntimeError, match="nothing is known"):
        weights.of(torch.tensor([4]))


def test_shuffled_labels_swap_about_half_of_the_pairs_and_the_same_ones_always() -> None:
    ids = torch.arange(4000) * 7919
    coins = label_coins(ids, seed=3)
    assert 0.46 < float(coins.float().mean()) < 0.54
    assert torch.equal(coins[::3], label_coins(ids[::3], seed=3))
    assert not torch.equal(coins, label_coins(ids, seed=4))


@pytest.mark.parametrize("cached", [False, True])
def test_with_shuffled_labels_swapped_pairs_count_the_other_way(
    student: Student, objective: Preference, cached: bool
) -> None:
    """Term by term: a swapped pair has the loss of its mirror image, under the reference asked live or before."""
    if cached:
        estimator = replace(objective.estimator, draws=2)
        asked = cache_reference(_live(objective), objective.features, estimator, 4)
        objective = replace(objective, estimator=estimator, reference=asked)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.01)
    shuffled, mirrored = replace(objective, shuffled=True), []
    for row in range(len(objective.features)):
        batch = objective.features.batch(np.array([row]), np.zeros(1, int))
        (plain, _), (found, _) = (one.loss(student, batch, Microbatch(0)) for one in (objective, shuffled))
        swapped = bool(label_coins(batch.ids, objective.estimator.seed))
        margin = -torch.log(torch.expm1(plain))  # of log(1 + exp(-margin))
        expected = torch.nn.functional.softplus(margin) if swapped else plain
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-3)
        mirrored.append(swapped)
    assert 0 < sum(mirrored) < len(mirrored), "take another seed: both kinds must be there"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_policy_that_is_its_reference_has_a_loss_of_ln_2(
    student: Student, objective: Preference, precision: TrainingPrecision, cached: bool
) -> None:
    """With the strength of preference that the paper takes, asked in the precision of the training."""
    objective = replace(objective, beta=5000.0, estimator=replace(objective.estimator, draws=2))
    with mixed_precision(precision, "cpu"):
        if cached:
            asked = cache_reference(_live(objective), objective.features, objective.estimator, 6)
            objective = replace(objective, reference=asked)
        losses = [float(_loss(objective, student, step)[0].detach()) for step in range(4)]
    assert losses == pytest.approx([math.log(2)] * 4, abs=1e-5 if precision == "bf16" or not cached else 1e-3)


def test_null_control_a_float32_reference_is_an_offset_to_a_bfloat16_policy(
    student: Student, objective: Preference
) -> None:
    objective = replace(objective, beta=5000.0, estimator=replace(objective.estimator, draws=2))
    asked = cache_reference(_live(objective), objective.features, objective.estimator, 6)
    with mixed_precision("bf16", "cpu"):
        loss, _ = _loss(replace(objective, reference=asked), student, 0)
    assert abs(float(loss.detach()) - math.log(2)) > 0.01


def test_a_part_of_a_step_hides_what_the_schedule_says(student: Student, objective: Preference) -> None:
    """Half of the microbatches of a step have one share of hidden tokens, half another."""
    objective, heard = replace(objective, ratios=2), []
    student.head.register_forward_hook(lambda _, given, __: heard.append(len(given[0])))
    rows, draws = objective.schedule()(STEP)
    for index in range(6):  # a pair each, of two copies
        batch = objective.features.batch(rows[index : index + 1], draws[index : index + 1])
        objective.loss(student, batch, Microbatch(STEP, index, 6))
    quantiles = [objective.schedule().mask_quantile(STEP, part) for part in range(2)]
    hidden = [objective.estimator.masks.hidden(9, quantile) for quantile in quantiles]
    assert hidden[0] != hidden[1], "take another step"
    assert heard == [2 * hidden[part] for part in (0, 1) for _ in range(6)]  # three pairs of two images


@pytest.mark.parametrize("text", ["late", "interleaved"])
def test_operations_of_a_pair_are_those_that_torch_counts(
    pairs: FeaturesInMemory, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is read once for both images."""
    monkeypatch.setattr(blocks, "VECTOR", 1)  # the keys of which are padded on a CPU, which no formula counts
    student = tiny_student(text=text, text_depth=2 if text == "late" else 0).requires_grad_(False)
    masks = MaskLaw(mean=0.75, std=1e-6, low=0.74, high=0.76)
    even = np.full(len(pairs), pairs.longest_text)  # for padding counts only where torch does
    pairs = replace(pairs, text_start=np.zeros_like(even), text_tokens=even)
    objective = Preference(pairs, LiveReference(student), PairErrorEstimator(2, 0, masks), 6, beta=1.0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _loss(objective, student, 0)
    times = 4 * time_flops(student.config, 6 * 2 * masks.hidden(9, 0.5))
    assert counter.get_total_flops() - times == pytest.approx(6 * objective.flops(student) * 2 / 4)


class Reads(TorchDispatchMode):
    """Counts how often a number of a tensor is read by Python, for which it would wait on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("cached", [False, True])
def test_the_loss_reads_nothing_back(student: Student, objective: Preference, cached: bool) -> None:
    batch = objective.features.batch(np.arange(6), np.zeros(6, int))
    objective = replace(objective, weights=PairWeights.of_margins(batch.ids, torch.rand(6)))
    if cached:
        estimator = replace(objective.estimator, draws=2)
        asked = cache_reference(_live(objective), objective.features, estimator, 6)
        objective = replace(objective, estimator=estimator, reference=asked)
    with Reads() as reads:
        objective.loss(student, batch, Microbatch(0))
        assert reads.count == 0
        int(batch.epochs[0])
    assert reads.count == 1, "the null control"
