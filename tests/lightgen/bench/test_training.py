"""Benchmarks run on any machine, count the same work for both ways, and the baseline trains the same loss."""

import pytest
import torch

from lightgen.bench import training as bench
from lightgen.bench.training import COPIES, bench_dpo, bench_sample, bench_train
from lightgen.model.masking import MaskLaw
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.training.data import FeaturesInMemory
from lightgen.training.objectives import MaskedDiffusion, Microbatch, Objective
from lightgen.training.speed import matmul_ceiling


def test_train_prints_ours_and_the_baseline() -> None:
    ours, theirs = bench_train("ci-tiny", 64, 2, 1, words=4)
    assert (ours.name, theirs.name) == ("lightgen", "published code's way")
    for rate in (ours, theirs):
        assert rate.images_per_s > 0
        assert 0 < rate.mfu < 1
    # The same model FLOPs an image, whatever else the baseline computes.
    assert ours.tflops / ours.images_per_s == pytest.approx(theirs.tflops / theirs.images_per_s)


def test_sample_draws_the_same_tokens_both_ways(student: Student) -> None:
    config = SampleConfig(iterations=3, guidance=4.0, head_steps=4)
    text = student.without_text(2)
    ours, theirs = (draw(student, text, 3, 2, config) for draw in (bench._draw_ours, bench._draw_published))
    torch.testing.assert_close(ours, theirs)
    assert all(rate.images_per_s > 0 for rate in bench_sample("ci-tiny", 64, 1, 2, 2, words=3))


def test_the_baselines_loss_is_that_of_hidden_tokens(
    features: FeaturesInMemory, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other noise, the same expectation: means over many steps agree. Without the bound, whose tail is heavy."""
    monkeypatch.setattr(bench, "variance_bound", lambda output, *_: torch.zeros(len(output)))
    law = MaskLaw(mean=0.6, std=1e-6, low=0.599, high=0.601)
    ours = MaskedDiffusion(features, 24, COPIES, 0, bound=False, masks=law)
    theirs = bench._Published(features, 24, COPIES, 0, bound=False, masks=law)
    student.config = student.config.model_copy(update={"text_drop": 0.0})
    torch.manual_seed(0)
    with torch.no_grad():
        means = [
            torch.stack([_loss(objective, student, step) for step in range(40)]).mean() for objective in (ours, theirs)
        ]
    assert float(means[0]) == pytest.approx(float(means[1]), rel=0.03)


def test_dpo_with_a_cached_reference_does_three_quarters_of_the_work() -> None:
    cached, live, _ = bench_dpo("ci-tiny", 64, 2, 1, words=4)
    assert cached.tflops / cached.images_per_s == pytest.approx(0.75 * live.tflops / live.images_per_s)


def _loss(objective: Objective, student: Student, step: int) -> torch.Tensor:
    rows, epochs = objective.schedule()(step)
    return objective.loss(student, objective.features.batch(rows, epochs), Microbatch(step))[0]


def test_the_ceiling_is_a_rate_of_this_machine() -> None:
    assert matmul_ceiling("cpu") > 1e9
