"""What is minimised: masked diffusion against a naive loop, DPO against float64 numpy and its invariants."""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lightgen.model.diffusion import add_noise
from lightgen.model.masking import MaskLaw
from lightgen.model.student import Student
from lightgen.training.data import FeatureSet, step_generator
from lightgen.training.objectives import (
    MaskedDiffusion,
    Preference,
    as_tokens,
    draw_step,
    errors,
    preference_loss,
)


@pytest.fixture
def prepared(student: Student, features: FeatureSet) -> Callable:
    student.eval()
    batch = features.batch(np.arange(3), step_generator(0, 0, "test"))
    tokens, grid = as_tokens(student, batch)
    draw = draw_step(tokens.shape, MaskLaw(), 2, step_generator(0, 0, "draw"))
    return lambda: (tokens, student.text(batch.text, batch.keep), grid, draw)


def test_errors_equal_a_loop_over_copies_images_and_tokens(student: Student, prepared: Callable) -> None:
    tokens, text, grid, draw = prepared()
    found = errors(student, tokens, text, grid, draw, bound=False)
    (z,) = student.conditions(student.encode(tokens, draw.visible, grid), draw.visible, grid, text)
    copies, images, hidden = found.shape
    row = 0
    for c in range(copies):
        for b in range(images):
            for i in range(hidden):
                place = draw.masked[b, i]
                t, noise = draw.times[row : row + 1], draw.noise[row : row + 1]
                xt = add_noise(tokens[b, place][None], t, noise)
                output = student.head(xt, t, student.head.condition(z[b, place][None]))
                expected = (output[0, :12] - noise[0]).square().mean()
                assert float(found[c, b, i].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
                row += 1


def test_only_hidden_tokens_reach_the_head(student: Student, prepared: Callable) -> None:
    tokens, text, grid, draw = prepared()
    seen = []
    student.head.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    errors(student, tokens, text, grid, draw, bound=True)
    assert seen == [2 * draw.masked.numel()]
    assert draw.masked.numel() + draw.visible.numel() == 3 * grid.tokens


def test_masked_diffusion_is_a_function_of_the_step(student: Student, features: FeatureSet) -> None:
    objective = MaskedDiffusion(features, batch_size=4, copies=2, seed=1)
    losses = []
    for step in (0, 3, 3):
        torch.manual_seed(step)  # dropout
        losses.append(float(objective.loss(student, step)[0].detach()))
    assert losses[1] == losses[2] != losses[0]


def test_dropped_captions_do_not_matter(student: Student, features: FeatureSet) -> None:
    student.config = student.config.model_copy(update={"text_drop": 1.0})
    other = FeatureSet(features.mean, None, features.text * 0 + 9, features.text_start, features.text_tokens)
    losses = []
    for each in (features, other):
        torch.manual_seed(0)
        losses.append(float(MaskedDiffusion(each, 4, 1, 0).loss(student, 0)[0].detach()))
    assert losses[0] == losses[1]


@pytest.fixture
def pairs(student: Student, make_features: Callable[..., FeatureSet]) -> Preference:
    winners, losers = make_features(12, 1), make_features(12, 2)
    reference = copy.deepcopy(student).requires_grad_(False)
    return Preference(winners, losers, reference, batch_size=6, copies=2, beta=500.0, seed=0)


def test_dpo_starts_at_ln_2_with_every_pair_tied(student: Student, pairs: Preference) -> None:
    loss, figures = pairs.loss(student, 0)
    assert float(loss.detach()) == pytest.approx(math.log(2), abs=1e-6)
    assert figures["margin"] == 0.0
    assert figures["accuracy"] == 0.5


def test_dpo_loss_equals_numpy() -> None:
    generator = np.random.default_rng(0)
    policy, reference = generator.random((2, 7)), generator.random((2, 7))
    inside = -0.5 * 9.0 * ((policy[0] - reference[0]) - (policy[1] - reference[1]))
    expected = np.log1p(np.exp(-inside)).mean()
    loss, figures = preference_loss(torch.from_numpy(policy), torch.from_numpy(reference), beta=9.0)
    assert float(loss) == pytest.approx(expected, rel=1e-9)
    assert figures["accuracy"] == pytest.approx((inside > 0).mean())


def test_swapping_flips_the_sign_and_shifts_cancel() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.rand(2, 7, generator=generator), torch.rand(2, 7, generator=generator)
    _, there = preference_loss(policy, reference, 5.0)
    _, back = preference_loss(policy.flip(0), reference.flip(0), 5.0)
    assert there["margin"] == pytest.approx(-back["margin"], rel=1e-6)
    shifted, _ = preference_loss(policy + 0.25, reference, 5.0)
    assert float(shifted) == pytest.approx(float(preference_loss(policy, reference, 5.0)[0]), rel=1e-5)


def test_each_pair_has_its_own_sigmoid() -> None:
    policy, reference = torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.zeros(2, 2)
    loss, _ = preference_loss(policy, reference, 2.0)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(2))) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_reference_has_no_gradient_and_a_step_prefers_the_winner(student: Student, pairs: Preference) -> None:
    objective = pairs
    before = [parameter.clone() for parameter in objective.reference.parameters()]
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        objective.loss(student, 0)[0].backward()
        optimizer.step()
    loss, figures = objective.loss(student, 0)
    assert float(loss.detach()) < math.log(2)
    assert figures["margin"] > 0
    assert all(parameter.grad is None for parameter in objective.reference.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, objective.reference.parameters(), strict=True))


def test_winner_and_loser_share_mask_and_noise(student: Student, pairs: Preference) -> None:
    objective, inputs = pairs, []
    for each in (student, objective.reference):
        each.head.register_forward_hook(lambda _, given, __: inputs.append(given))
    objective.loss(student, 2)
    assert len(inputs) == 4  # reference: winner, loser; policy: winner, loser
    assert all(torch.equal(times, inputs[0][1]) for _, times, _ in inputs)
    assert torch.equal(inputs[0][0], inputs[2][0])
    assert torch.equal(inputs[1][0], inputs[3][0])
    assert not torch.equal(inputs[0][0], inputs[1][0])
    same = Preference(objective.winners, objective.winners, objective.reference, 6, 2, 500.0, 0)
    inputs.clear()
    same.loss(student, 2)
    assert all(torch.equal(noisy, inputs[0][0]) for noisy, _, _ in inputs)


def test_dropout_is_off_in_dpo(student: Student, pairs: Preference) -> None:
    objective = pairs
    student.train()
    objective.loss(student, 0)
    assert not student.training


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_noise_levels_follow_the_power_law(power: float) -> None:
    draw = draw_step((64, 16, 8), MaskLaw(), 8, step_generator(0, 0, "draw"), power)
    levels = (draw.times.double() + 0.5) / 1000
    assert int(draw.times.min()) >= 0
    assert int(draw.times.max()) <= 999
    for share in (0.2, 0.5, 0.8):  # P(u^power < s) = s^(1/power)
        assert float((levels < share).double().mean()) == pytest.approx(share ** (1 / power), abs=0.02)
