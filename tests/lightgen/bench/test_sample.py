"""The benchmark of drawing: both ways draw the same, and the baseline does what the published code repeats."""

from collections import Counter

import pytest
import torch

from lightgen.bench import training as bench
from lightgen.model.flops import sample_flops
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.training.speed import timed

ITERATIONS, HEAD_STEPS, WORDS = 5, 6, 3
SETTINGS = SampleConfig(iterations=ITERATIONS, head_steps=HEAD_STEPS)


def test_rates_count_the_same_work_and_the_same_images() -> None:
    ours, theirs = bench.bench_sample("ci-tiny", 64, 2, SETTINGS, words=WORDS)
    assert 0 < ours.mfu < 1
    assert ours.tflops / ours.images_per_s == pytest.approx(theirs.tflops / theirs.images_per_s)
    config = bench._lively_student("ci-tiny", 64).config
    work = sample_flops(config, SampleConfig(iterations=ITERATIONS, head_steps=HEAD_STEPS), 16, WORDS, 2)
    assert 1e12 * ours.tflops * 2 / ours.images_per_s == pytest.approx(work)
    assert ours.difference == 0
    assert theirs.difference is not None
    assert theirs.difference < 1


def test_the_pictures_hang_on_the_text() -> None:
    """Else the comparison would say nothing: a fresh head says zero whatever it is asked."""
    student, settings = bench._lively_student("ci-tiny", 64), SampleConfig(iterations=ITERATIONS, head_steps=HEAD_STEPS)
    keep = torch.ones(2, WORDS, dtype=torch.bool)
    texts = [student.text(torch.randn(2, WORDS, 64, generator=torch.Generator().manual_seed(n)), keep) for n in (1, 2)]
    one, other = (bench._draw_ours(student, text, 4, 2, settings) for text in texts)
    assert bench._difference(one, one) == 0
    with pytest.raises(AssertionError, match="must draw the same"):
        bench._difference(one, other)


@pytest.mark.parametrize(("ours", "expected"), [(True, (1, 0)), (False, (2, 1))], ids=["ours", "published"])
def test_what_the_baseline_repeats(ours: bool, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoder and decoder once or twice a pass; keys and values once a text, or once a pass and text."""
    monkeypatch.setattr(bench, "matmul_ceiling", lambda _: 1.0)
    calls, real = Counter(), Student.__init__

    def counted(student: Student, *args: object) -> None:
        real(student, *args)  # type: ignore[arg-type]
        for name in ("encoder.0", "decoder.1", "late.0.attention.key_value"):
            student.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.update([name]))

    monkeypatch.setattr(Student, "__init__", counted)
    student, settings = bench._lively_student("ci-tiny", 64), SampleConfig(iterations=ITERATIONS, head_steps=HEAD_STEPS)
    draw = bench._draw_ours if ours else bench._draw_published
    timed(lambda: draw(student, student.without_text(2), 4, 2, settings), 1, "cpu")  # once more to warm up
    trunk, again = expected
    assert calls["encoder.0"] == calls["decoder.1"] == 2 * trunk * ITERATIONS
    assert calls["late.0.attention.key_value"] == 2 * 2 * (ITERATIONS if again else 1)
