"""Benchmarks run on any machine, count the same work for both ways, and the baseline trains the same loss."""

import time
from collections.abc import Callable

import pytest
import torch

from lightgen.bench import demo
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
    assert all(
        rate.images_per_s > 0
        for rate in bench_sample("ci-tiny", 64, 1, SampleConfig(iterations=2, head_steps=2), words=3)
    )


def test_the_baselines_loss_is_that_of_hidden_tokens(
    features: FeaturesInMemory, student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other noise, the same expectation: means over many steps agree. Without the bound, whose tail is heavy."""
    monkeypatch.setattr(bench, "variance_bound", lambda output, *_: torch.zeros(len(output)))
    law = MaskLaw(mean=0.6, std=1e-6, low=0.599, high=0.601)
    ours = MaskedDiffusion(features, 24, COPIES, 0, bound=False, masks=law)
    theirs = bench.Published(features, 24, COPIES, 0, bound=False, masks=law)
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


def _timed_by_processor(work: Callable[[], object], repeats: int, device: str) -> tuple[float, float]:
    """As `timed`, but on a busy machine too the time that the work itself takes."""
    work()
    began = time.thread_time()
    for _ in range(repeats):
        work()
    return (time.thread_time() - began) / repeats, 0.0


def test_the_demos_step_is_that_of_its_recipe_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "timed", _timed_by_processor)
    (ours, theirs), ratios = demo.bench_demo(steps=1, rounds=2, threads=1)
    assert (ours.name, theirs.name, len(ratios)) == ("lightgen", "published code's way", 2)
    assert ours.tflops / ours.images_per_s == pytest.approx(theirs.tflops / theirs.images_per_s)
    assert all(ratio > 1 for ratio in ratios)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_drawing_is_measured_in_the_precision_of_the_recipe(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    real = bench._draw_ours

    def watched(*args: object) -> torch.Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "_draw_ours", watched)
    products: list[torch.dtype] = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, out: products.append(out.dtype) if isinstance(module, torch.nn.Linear) else None
    )
    try:
        bench_sample("ci-tiny", 64, 1, SampleConfig(iterations=1, head_steps=2, precision=precision), words=3)  # type: ignore[arg-type]
    finally:
        hook.remove()
    assert not any(seen), "a user's command runs under no autocast of its own"
    assert (torch.bfloat16 in products) is (precision == "bf16")
