"""Inpainting: the mask becomes tokens as a plain loop says, the schedule counts hidden tokens, the rest stays."""

import numpy as np
import pytest
import torch

from lightgen.errors import ConfigError
from lightgen.generators.inpainting import hidden_tokens, inpaint
from lightgen.generators.sampler import Sampler
from lightgen.model.masking import decode_counts
from lightgen.model.sampling import Hole, SampleConfig, sample_latents
from lightgen.model.student import Grid
from tests.lightgen.conftest import SAMPLE, Chain


@pytest.fixture(scope="module")
def sampler(chain: Chain) -> Sampler:
    return Sampler.from_checkpoint(chain.store.open(chain.checkpoint), chain.store)


def test_hidden_tokens_against_a_loop_over_tokens_and_neighbours() -> None:
    random = np.random.default_rng(0)
    grid = Grid(5, 3)
    for _ in range(20):
        mask = random.random((40, 24)) < 0.01
        touched = [[mask[r * 8 : r * 8 + 8, c * 8 : c * 8 + 8].any() for c in range(3)] for r in range(5)]
        expected = [
            any(touched[y][x] for y in range(5) for x in range(3) if abs(y - r) <= 1 and abs(x - c) <= 1)
            for r in range(5)
            for c in range(3)
        ]
        assert hidden_tokens(mask, grid).tolist() == expected


def test_known_tokens_stay_and_are_seen(sampler: Sampler) -> None:
    student = sampler.student
    text = student.without_text(1)
    known = torch.randn(1, 16, student.config.token_dim, generator=torch.Generator().manual_seed(1))
    hidden = torch.zeros(16, dtype=torch.bool)
    hidden[[3, 5, 6]] = True
    drawn = sample_latents(student, text, Grid(4, 4), [7], SAMPLE, hole=Hole(known, hidden))
    assert torch.equal(drawn[:, ~hidden], known[:, ~hidden])
    assert not torch.equal(drawn[:, hidden], known[:, hidden])
    other = known.clone()
    other[:, 0] += 1.0
    moved = sample_latents(student, text, Grid(4, 4), [7], SAMPLE, hole=Hole(other, hidden))
    assert not torch.equal(moved[:, hidden], drawn[:, hidden])


def test_a_hole_everywhere_is_plain_sampling(sampler: Sampler) -> None:
    student, text = sampler.student, sampler.student.without_text(2)
    everything = Hole(torch.randn(2, 16, student.config.token_dim), torch.ones(16, dtype=torch.bool))
    plain = sample_latents(student, text, Grid(4, 4), [1, 2], SAMPLE)
    assert torch.equal(sample_latents(student, text, Grid(4, 4), [1, 2], SAMPLE, hole=everything), plain)


@pytest.mark.parametrize("order", ["random", "raster"])
def test_the_schedule_is_of_the_hidden_tokens_alone(sampler: Sampler, monkeypatch, order: str) -> None:
    """The published method applied the cosine to what was left, and was through after half of its steps."""
    from lightgen.model import sampling

    drawn: list[int] = []
    real = sampling.draw_tokens
    monkeypatch.setattr(sampling, "draw_tokens", lambda s, z, *rest: drawn.append(len(z[0])) or real(s, z, *rest))
    hidden = torch.zeros(16, dtype=torch.bool)
    hidden[:9] = True
    config = SampleConfig(iterations=5, guidance=1.0, head="ddim", head_steps=2, order=order)  # type: ignore[arg-type]
    tokens = torch.zeros(1, 16, sampler.student.config.token_dim)
    sample_latents(sampler.student, sampler.student.without_text(1), Grid(4, 4), [0], config, hole=Hole(tokens, hidden))
    assert drawn == decode_counts(9, 5)
    assert sum(drawn) == 9


def test_pixels_outside_the_mask_are_the_pictures_own(sampler: Sampler) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    mask = np.zeros((32, 48), bool)
    mask[5:20, 30:41] = True
    first, second = inpaint(sampler, image, mask, ["a red circle", "a blue cross"], [1, 2], SAMPLE)
    for drawn in (first, second):
        assert np.array_equal(drawn[~mask], image[~mask])
        assert not np.array_equal(drawn[mask], image[mask])
    assert not np.array_equal(first, second)
    (alone,) = inpaint(sampler, image, mask, ["a blue cross"], [2], SAMPLE)
    assert np.abs(alone.astype(int) - second).max() <= 1  # a batch may move the last bit


def test_wrong_masks_are_refused(sampler: Sampler) -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ConfigError, match="the mask is 16 x 32 px, the image 32 x 32"):
        inpaint(sampler, image, np.ones((32, 16), bool), ["a"], [0], SAMPLE)
    with pytest.raises(ConfigError, match="covers nothing"):
        inpaint(sampler, image, np.zeros((32, 32), bool), ["a"], [0], SAMPLE)
    with pytest.raises(ConfigError, match="multiples of 8 px"):
        inpaint(sampler, image[:28], np.ones((28, 32), bool), ["a"], [0], SAMPLE)
    with pytest.raises(ConfigError, match="need as many seeds"):
        inpaint(sampler, image, np.ones((32, 32), bool), ["a"], [0, 1], SAMPLE)
