"""Masked diffusion against a naive loop; what is drawn does not depend on who shares the batch."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightgen.model.diffusion import add_noise
from lightgen.model.masking import MaskLaw
from lightgen.model.student import Student
from lightgen.training import counter_rng
from lightgen.training.data import FeaturesInMemory, Winners
from lightgen.training.objectives import (
    MaskedDiffusion,
    Microbatch,
    Objective,
    as_tokens,
    denoising_errors,
    draw_mask_and_noise,
)
from lightgen.training.preference import LiveReference, PairErrorEstimator, Preference
from tests.lightgen.training.tiny_run import tiny_student


@pytest.fixture
def prepared(student: Student, features: FeaturesInMemory) -> Callable:
    student.eval()
    batch = features.batch(np.arange(3), np.zeros(3, int))
    tokens, grid = as_tokens(student, batch.latents(batch.keys(0)))
    draw = draw_mask_and_noise(batch.keys(0), grid.tokens, tokens.shape[2], 7, 2)
    return lambda: (tokens, student.text(batch.text, batch.keep), grid, draw)


def test_errors_equal_a_loop_over_copies_images_and_tokens(student: Student, prepared: Callable) -> None:
    tokens, text, grid, draw = prepared()
    found = denoising_errors(student, tokens, text, grid, draw, bound=False)
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
    denoising_errors(student, tokens, text, grid, draw, bound=True)
    assert seen == [2 * draw.masked.numel()]
    assert draw.masked.numel() + draw.visible.numel() == 3 * grid.tokens


def _loss(objective: Objective, student: Student, step: int) -> torch.Tensor:
    rows, epochs = objective.schedule()(step)
    return objective.loss(student, objective.features.batch(rows, epochs), Microbatch(step))[0]


def test_masked_diffusion_is_a_function_of_the_step(student: Student, features: FeaturesInMemory) -> None:
    objective = MaskedDiffusion(features, batch_size=4, copies=2, seed=1)
    losses = []
    for step in (0, 3, 3):
        torch.manual_seed(step)  # dropout
        losses.append(float(_loss(objective, student, step).detach()))
    assert losses[1] == losses[2] != losses[0]


def test_dropped_captions_do_not_matter(student: Student, features: FeaturesInMemory) -> None:
    student.config = student.config.model_copy(update={"text_drop": 1.0})
    losses = []
    for each in (features, replace(features, text=features.text * 0 + 9)):
        torch.manual_seed(0)
        losses.append(float(_loss(MaskedDiffusion(each, 4, 1, 0), student, 0).detach()))
    assert losses[0] == losses[1]


def test_microbatches_have_the_mean_of_the_whole_batch(student: Student, features: FeaturesInMemory) -> None:
    """Noise, mask and dropped captions depend on the sample: cutting the batch changes nothing but rounding."""
    student = Student(student.config.model_copy(update={"dropout": 0.0, "text_drop": 0.5})).init(3)
    objective = MaskedDiffusion(features, batch_size=12, copies=2, seed=1)
    rows, epochs = objective.schedule()(5)
    whole = objective.loss(student, features.batch(rows, epochs), Microbatch(5))[0]
    batches = [features.batch(rows[n::3], epochs[n::3]) for n in range(3)]
    losses = [objective.loss(student, batch, Microbatch(5, n, 3))[0] for n, batch in enumerate(batches)]
    torch.testing.assert_close(torch.stack(losses).mean(), whole, rtol=1e-5, atol=1e-6)
    several = replace(objective, ratios=3)  # the null control: three shares of hidden tokens instead of one
    other = [several.loss(student, batch, Microbatch(5, n, 3))[0] for n, batch in enumerate(batches)]
    assert abs(float((torch.stack(other).mean() - whole).detach())) > 1e-4


@pytest.mark.parametrize("masks", [MaskLaw(), MaskLaw(mean=1.0, std=1e-6, low=0.999), MaskLaw(low=0.0, high=0.01)])
@pytest.mark.parametrize("drop", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"text": "late"},
        {"text": "late", "text_depth": 1},
        {"encoder_depth": 0, "aligner_depth": 0, "head_depth": 0, "text_positions": 0},
    ],
    ids=["interleaved", "no block reads the text", "late", "no depths"],
)
def test_what_has_no_gradient_is_what_the_objective_says_whatever_the_batch(
    features: FeaturesInMemory, pairs: FeaturesInMemory, sizes: dict, drop: float, masks: MaskLaw
) -> None:
    """However much is hidden or dropped; a parameter whose gradient came and went would make ranks wait for ever."""
    student = tiny_student(text_drop=drop, **sizes)
    reference = LiveReference(copy.deepcopy(student).requires_grad_(False))
    for objective in (
        MaskedDiffusion(features, 4, 1, 0, masks=masks),
        MaskedDiffusion(Winners(pairs), 4, 1, 0, masks=masks, bound=False, time_power=0.5),
        Preference(pairs, reference, PairErrorEstimator(1, 0, masks), 4, beta=5.0),
    ):
        untrained = {id(parameter) for parameter in objective.untrained(student)}
        expected = [name for name, parameter in student.named_parameters() if id(parameter) in untrained]
        for step in range(2):
            student.zero_grad()
            _loss(objective, student, step).backward()
            assert [name for name, value in student.named_parameters() if value.grad is None] == expected


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_noise_levels_follow_the_power_law(power: float) -> None:
    keys = counter_rng.sample_keys(torch.arange(64), torch.zeros(64, dtype=torch.long), 0)
    draw = draw_mask_and_noise(keys, 16, 8, 14, 8, power)
    levels = (draw.times.double() + 0.5) / 1000
    assert int(draw.times.min()) >= 0
    assert int(draw.times.max()) <= 999
    for share in (0.2, 0.5, 0.8):  # P(u^power < s) = s^(1/power)
        assert float((levels < share).double().mean()) == pytest.approx(share ** (1 / power), abs=0.02)
