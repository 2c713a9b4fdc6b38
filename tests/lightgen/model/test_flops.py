"""FLOPs by formula equal those that torch counts while the model runs."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lightgen.model.blocks import VECTOR
from lightgen.model.config import StudentConfig
from lightgen.model.flops import forward_flops, sample_flops, time_flops, train_flops
from lightgen.model.masking import gather_tokens
from lightgen.model.sampling import RedrawConfig, SampleConfig, sample_latents
from lightgen.model.student import Grid, Student

SMALL = StudentConfig(
    width=32, heads=2, encoder_depth=2, decoder_depth=3, aligner_depth=1, head_width=24, head_depth=2, text_dim=20,
    latent_channels=4, grid=4, dropout=0.0, text_depth=2,
)  # fmt: skip
CONFIGS = [SMALL, SMALL.model_copy(update={"text": "interleaved", "text_depth": 0})]
# As many words as a CPU pads masked keys to, so that the counter sees no padding.
BATCH, TOKENS, HIDDEN, WORDS, COPIES = 3, 16, 11, VECTOR, 2


def run(student: Student) -> torch.Tensor:
    order = torch.stack([torch.randperm(TOKENS) for _ in range(BATCH)])
    visible, hidden = order[:, HIDDEN:], order[:, :HIDDEN]
    text = student.text(torch.randn(BATCH, WORDS, 20), torch.ones(BATCH, WORDS, dtype=torch.bool))
    tokens = torch.randn(BATCH, TOKENS, student.config.token_dim)
    (z,) = student.conditions(student.encode(tokens, visible, Grid(4, 4)), visible, Grid(4, 4), text)
    condition = student.head.condition(gather_tokens(z, hidden).flatten(0, 1)).repeat(COPIES, 1)
    rows = BATCH * HIDDEN * COPIES
    return student.head(torch.randn(rows, student.config.token_dim), torch.randint(0, 1000, (rows,)), condition).sum()


@pytest.mark.parametrize("config", CONFIGS, ids=["late", "interleaved"])
def test_forward(config: StudentConfig) -> None:
    student = Student(config).init(0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        run(student)
    expected = BATCH * forward_flops(config, TOKENS, HIDDEN, WORDS, HIDDEN * COPIES)
    assert counter.get_total_flops() == expected + time_flops(config, BATCH * HIDDEN * COPIES)


@pytest.mark.parametrize("config", CONFIGS, ids=["late", "interleaved"])
def test_training_is_three_forward_passes_but_for_gradients_of_inputs(config: StudentConfig) -> None:
    student = Student(config).init(0)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(student).backward()
    expected = BATCH * train_flops(config, TOKENS, HIDDEN, WORDS, HIDDEN * COPIES)
    expected += 3 * time_flops(config, BATCH * HIDDEN * COPIES)
    assert 0.9 * expected < counter.get_total_flops() <= expected


@pytest.mark.parametrize("config", CONFIGS, ids=["late", "interleaved"])
@pytest.mark.parametrize("guidance", [1.0, 3.0], ids=["one text", "guided"])
@pytest.mark.parametrize("iterations", [6, 99], ids=["several a pass", "one a pass"])
def test_sampling(config: StudentConfig, guidance: float, iterations: int) -> None:
    student = Student(config).init(0).requires_grad_(False)  # which the counter's hooks ask for
    settings = SampleConfig(iterations=iterations, guidance=guidance, head_steps=7, clip_x0=4.0)
    text = student.text(torch.randn(BATCH, WORDS, 20), torch.ones(BATCH, WORDS, dtype=torch.bool))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        # At the size of the position tables: resizing them is no part of the formula.
        sample_latents(student, text, Grid(4, 4), [1] * BATCH, settings)
    assert counter.get_total_flops() == sample_flops(config, settings, 16, WORDS, BATCH)


@pytest.mark.parametrize("config", CONFIGS, ids=["late", "interleaved"])
def test_sampling_whose_tokens_are_drawn_again(config: StudentConfig) -> None:
    student = Student(config).init(0).requires_grad_(False)
    redraw = RedrawConfig(sweeps=2, head_steps=5)
    settings = SampleConfig(iterations=6, head_steps=7, clip_x0=4.0, redraw=redraw)
    text = student.text(torch.randn(BATCH, WORDS, 20), torch.ones(BATCH, WORDS, dtype=torch.bool))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        sample_latents(student, text, Grid(4, 4), [1] * BATCH, settings)
    assert counter.get_total_flops() == sample_flops(config, settings, 16, WORDS, BATCH)


@pytest.mark.parametrize(("head", "expected"), [((3, 1024), 0.83e12), ((8, 1536), 1.27e12)], ids=["0.7b", "official"])
def test_the_papers_students_at_256_px(head: tuple[int, int], expected: float) -> None:
    """An independent count by hand: text 21, encoder 14, decoder 107, cross 97 GFLOP, and the head on masked tokens."""
    config = StudentConfig(head_depth=head[0], head_width=head[1])
    hidden = round(0.867 * 256)
    assert train_flops(config, 256, hidden, 128, 4 * hidden) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("size_px", "expected"), [(256, 32.4e12), (512, 130e12)])
def test_drawing_with_the_official_student(size_px: int, expected: float) -> None:
    """Hardly less than a count by hand with encoder and decoder once (model_facts 4.5).

    That one reads the text and embeds time and condition again in every pass.
    """
    config, tokens = StudentConfig(head_depth=8, head_width=1536), (size_px // 16) ** 2
    assert 0.94 * expected < sample_flops(config, SampleConfig(), tokens, 128, 1) < expected
