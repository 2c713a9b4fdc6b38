import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from lightgen.model.config import PRESETS, StudentConfig
from lightgen.model.memory import activation_bytes
from lightgen.model.student import Grid, Student
from lightgen.training.objectives import MaskAndNoise, denoising_errors

# docs/scale.md: GB an image that are kept for the backward pass, at 256 and 512 px
TABLE = {
    ("lightgen-0.7b", False): (0.52, 2.0),
    ("lightgen-official", False): (0.69, 2.7),
    ("lightgen-0.7b", True): (0.11, 0.43),
}


@pytest.mark.parametrize(("preset", "recompute"), TABLE)
def test_the_formula_gives_the_table_of_the_guide(preset: str, recompute: bool) -> None:
    for tokens, wanted in zip((256, 1024), TABLE[preset, recompute], strict=True):
        hidden = round(0.85 * tokens)
        found = activation_bytes(PRESETS[preset], tokens, hidden, 64, 4, recompute) / 1e9
        assert found == pytest.approx(wanted, rel=0.15)


TOKENS, HIDDEN, WORDS, COPIES = 144, 122, 24, 4


@pytest.mark.parametrize("text", ["late", "interleaved"])
def test_the_formula_counts_what_autograd_keeps(text: str) -> None:
    config = StudentConfig(
        width=256, heads=4, encoder_depth=2, decoder_depth=3, text_depth=0 if text == "interleaved" else 2,
        aligner_depth=1, head_width=192, head_depth=2, text_dim=64, text=text, dropout=0.0,
    )  # fmt: skip
    # Weights and constants are the same in both, so the difference is that of two images.
    counted = (_kept(config, images=3) - _kept(config, images=1)) / 2
    assert activation_bytes(config, TOKENS, HIDDEN, WORDS, COPIES) == pytest.approx(counted, rel=0.15)


def _kept(config: StudentConfig, images: int) -> int:
    """Bytes of all tensors that a bfloat16 forward pass keeps, each storage once."""
    student = Student(config).train()
    order = torch.randperm(TOKENS).expand(images, -1)
    rows = images * COPIES * HIDDEN
    noise = torch.randn(rows, config.token_dim)
    drawn = MaskAndNoise(order[:, HIDDEN:], order[:, :HIDDEN], torch.randint(0, 1000, (rows,)), noise)
    tokens = torch.randn(images, TOKENS, config.token_dim)
    words, keep = torch.randn(images, WORDS, config.text_dim), torch.ones(images, WORDS, dtype=torch.bool)
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        errors = denoising_errors(student, tokens, student.text(words, keep), Grid(12, 12), drawn, bound=True)
    assert errors.requires_grad
    return sum(storage.nbytes() for storage in kept.values())
