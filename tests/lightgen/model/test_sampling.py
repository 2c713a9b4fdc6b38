"""Sampling: guidance, order, and images that do not depend on their batch."""

import pytest
import torch

from lightgen.model.config import StudentConfig
from lightgen.model.sampling import SampleConfig, guide, sample_latents
from lightgen.model.student import Grid, Student, Text

CONFIG = StudentConfig(
    width=16, heads=2, encoder_depth=1, decoder_depth=2, text_depth=0, aligner_depth=1, head_width=16, head_depth=1,
    text_dim=6, text="interleaved", text_positions=4, latent_channels=3, grid=3,
)  # fmt: skip
LATE = CONFIG.model_copy(update={"text": "late", "text_depth": 1})
GRID = Grid(3, 2)
QUICK = SampleConfig(iterations=4, head_steps=8, guidance=3.0, clip_x0=4.0)


def _student(config: StudentConfig) -> Student:
    student = Student(config).init(0)
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    return student.eval()


def _text(student: Student, rows: slice = slice(None)) -> Text:
    text = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return student.text(text[rows], torch.ones(5, 4, dtype=torch.bool)[rows])


@pytest.mark.parametrize("config", [CONFIG, LATE], ids=["interleaved", "late"])
@pytest.mark.parametrize("head", ["ddpm", "ddim"])
def test_an_image_depends_on_its_own_seed_only(config: StudentConfig, head: str) -> None:
    student, settings = _student(config), QUICK.model_copy(update={"head": head})
    seeds = [5, 6, 7, 8, 9]
    together = sample_latents(student, _text(student), GRID, seeds, settings)
    assert together.shape == (5, 6, 12)
    apart = [sample_latents(student, _text(student, slice(i, i + 1)), GRID, [seeds[i]], settings) for i in range(5)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-4)
    other = sample_latents(student, _text(student), GRID, [1, *seeds[1:]], settings)
    assert not torch.allclose(other[0], together[0], atol=0.1)
    assert torch.allclose(other[1:], together[1:], atol=1e-4)


@pytest.mark.parametrize("head", ["ddpm", "ddim"])
def test_bfloat16_products_draw_nearly_the_same_and_everything_else_stays_float32(head: str) -> None:
    student, settings = _student(CONFIG), QUICK.model_copy(update={"head": head})
    exact = sample_latents(student, _text(student), GRID, [1, 2, 3, 4, 5], settings)
    rough = sample_latents(
        student, _text(student), GRID, [1, 2, 3, 4, 5], settings.model_copy(update={"precision": "bf16"})
    )
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert (exact - rough).abs().mean() < 0.02 * exact.std()


def test_precision_is_in_the_name_only_where_it_is_not_float32() -> None:
    assert "precision" not in QUICK.content()
    assert QUICK.model_copy(update={"precision": "auto"}).content()["precision"] == "auto"


def test_guidance_acts_on_the_noise_and_keeps_the_conditional_variance() -> None:
    output = torch.arange(16.0).reshape(4, 4)  # two tokens with text, two without; 2 numbers of noise, 2 of variance
    found = guide(output, 3.0)
    expected = torch.stack(
        [output[2, :2] + 3 * (output[0, :2] - output[2, :2]), output[3, :2] + 3 * (output[1, :2] - output[3, :2])]
    )
    assert torch.equal(found[:, :2], expected)
    assert torch.equal(found[:, 2:], output[:2, 2:])
    assert torch.equal(guide(output, 1.0), output[:2])
    assert torch.equal(guide(output, 0.0)[:, :2], output[2:, :2])


def test_guidance_one_skips_the_null_pass() -> None:
    student, widths = _student(CONFIG), []
    student.head.register_forward_hook(lambda _, inputs, __: widths.append(len(inputs[0])))
    sample_latents(student, _text(student), GRID, [1] * 5, QUICK.model_copy(update={"guidance": 1.0}))
    assert sum(widths) == 8 * 5 * GRID.tokens  # each token is in the head once a step, and only when it is drawn


def test_linear_guidance_grows_to_its_full_value(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightgen.model import sampling

    scales = []
    monkeypatch.setattr(sampling, "guide", lambda output, scale: scales.append(scale) or guide(output, scale))
    student = _student(CONFIG)
    settings = QUICK.model_copy(update={"guidance_schedule": "linear", "iterations": 6})
    sample_latents(student, _text(student), GRID, [1] * 5, settings)
    assert scales[0] == pytest.approx(1 + 2 / 6)
    assert scales[-1] == pytest.approx(3.0)


def test_raster_order_draws_row_by_row() -> None:
    student, seen = _student(CONFIG), []
    encode = student.encode
    student.encode = lambda tokens, visible, grid: seen.append(visible[0].tolist()) or encode(tokens, visible, grid)
    sample_latents(
        student, _text(student), GRID, [1] * 5, QUICK.model_copy(update={"order": "raster", "iterations": 6})
    )
    assert seen == [list(range(n)) for n in range(6)]
