"""Sampling: guidance, order, and images that do not depend on their batch."""

import math
from pathlib import Path

import pytest
import torch

from lightgen.model.config import StudentConfig
from lightgen.model.diffusion import cosine_schedule
from lightgen.model.sampling import Hole, RedrawConfig, SampleConfig, apart, guide, sample_latents
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
@pytest.mark.parametrize("redraw", [None, RedrawConfig(sweeps=2, head_steps=5)], ids=["once", "redrawn"])
def test_an_image_depends_on_its_own_seed_only(config: StudentConfig, head: str, redraw: RedrawConfig | None) -> None:
    student, settings = _student(config), QUICK.model_copy(update={"head": head, "redraw": redraw})
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


def _redrawn(sweeps: int = 1, noise: float = 0.85, **changes: object) -> SampleConfig:
    return QUICK.model_copy(update={"redraw": RedrawConfig(sweeps=sweeps, noise=noise, head_steps=5), **changes})


def test_every_place_lies_in_one_group_whose_places_do_not_touch() -> None:
    for rows, columns in [(4, 4), (3, 2), (1, 5), (1, 1)]:
        groups = apart(Grid(rows, columns))
        assert sorted(torch.cat(groups).tolist()) == list(range(rows * columns))
        for group in groups:
            places = [divmod(int(place), columns) for place in group]
            far = [max(abs(a - c), abs(b - d)) > 1 for a, b in places for c, d in places if (a, b) != (c, d)]
            assert all(far)


def test_each_sweep_draws_every_token_once_more_and_sees_all_others() -> None:
    student, seen, drawn = _student(CONFIG), [], []
    encode = student.encode
    student.encode = lambda tokens, visible, grid: seen.append(visible[0].tolist()) or encode(tokens, visible, grid)
    student.head.register_forward_hook(lambda _, inputs, __: drawn.append(len(inputs[0])))
    sample_latents(student, _text(student), GRID, [1] * 5, _redrawn(sweeps=2, guidance=1.0))
    once = seen[: -2 * 4]
    assert len(once) == QUICK.iterations
    everything = set(range(GRID.tokens))
    again = [everything - set(visible) for visible in seen[len(once) :]]
    assert again == 2 * [{0, 4}, {1, 5}, {2}, {3}]
    assert sum(drawn) == 5 * GRID.tokens * (QUICK.head_steps + 2 * 5)


def test_without_noise_to_speak_of_tokens_stay_and_with_all_of_it_they_are_drawn_anew() -> None:
    student, seeds = _student(CONFIG), [1, 2, 3, 4, 5]
    before = sample_latents(student, _text(student), GRID, seeds, QUICK.model_copy(update={"head": "ddim"}))
    little, much = (
        sample_latents(student, _text(student), GRID, seeds, _redrawn(noise=noise, head="ddim"))
        for noise in (0.01, 1.0)
    )
    assert (little - before).abs().mean() < 0.1 * before.std()
    assert (much - before).abs().mean() > 0.5 * before.std()


def test_sweeps_approach_the_joint_distribution_of_exact_conditionals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tokens with correlation 0.9. Drawn as if they were independent, then again: the correlation appears."""
    student, grid, rho, many = _student(CONFIG), Grid(1, 2), 0.9, 2000

    def conditions(encoded: torch.Tensor, visible: torch.Tensor, *rest: object) -> list[torch.Tensor]:
        return [encoded.expand(-1, 2, -1)]

    def encode(tokens: torch.Tensor, visible: torch.Tensor, grid: Grid) -> torch.Tensor:
        other = tokens[:, visible[0]] if visible.shape[1] else torch.zeros(many, 1, 12)
        return torch.cat([rho * other, torch.full_like(other, 1.0 if not visible.shape[1] else (1 - rho**2))], dim=2)

    class Head(torch.nn.Module):
        def condition(self, z: torch.Tensor) -> torch.Tensor:
            return z

        def forward(self, x: torch.Tensor, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            bar = float(cosine_schedule().alpha_bars[int(t)])
            mean, variance = z.chunk(2, dim=1)
            eps = math.sqrt(1 - bar) * (x - math.sqrt(bar) * mean) / (bar * variance + 1 - bar)
            return torch.cat([eps, eps], dim=1)

    for name, value in (("encode", encode), ("conditions", conditions), ("head", Head())):
        monkeypatch.setattr(student, name, value)
    together = SampleConfig(iterations=1, guidance=1.0, head="ddim", head_steps=40)  # both at once: independent
    text = student.without_text(many)

    def correlation(config: SampleConfig) -> tuple[float, float]:
        drawn = sample_latents(student, text, grid, range(many), config)
        return float(torch.corrcoef(drawn.transpose(0, 1).flatten(1))[0, 1]), float(drawn.std())

    assert correlation(together)[0] == pytest.approx(0, abs=0.05)
    redraw = RedrawConfig(sweeps=4, noise=1.0, head_steps=40)
    found, spread = correlation(together.model_copy(update={"redraw": redraw}))
    assert found == pytest.approx(rho, abs=0.03)
    assert spread == pytest.approx(1.0, abs=0.05)


def test_known_tokens_of_a_hole_are_never_drawn_again() -> None:
    student = _student(CONFIG)
    known = torch.randn(5, GRID.tokens, 12, generator=torch.Generator().manual_seed(3))
    hidden = torch.tensor([False, True, True, False, False, True])
    drawn = sample_latents(student, _text(student), GRID, [1] * 5, _redrawn(), hole=Hole(known, hidden))
    assert torch.equal(drawn[:, ~hidden], known[:, ~hidden])
    assert not torch.isclose(drawn[:, hidden], known[:, hidden]).any(dim=2).all()


def test_redrawing_is_in_the_name_only_where_it_is_asked_for() -> None:
    assert "redraw" not in QUICK.content()
    assert _redrawn(sweeps=2).content()["redraw"] == {"sweeps": 2, "noise": 0.85, "head_steps": 5}
    assert _redrawn(sweeps=3).rehearse(Path()).redraw == RedrawConfig(sweeps=1, head_steps=4)
