"""Memory by formula: against what autograd keeps, each storage counted once, and what is alive at once without it."""

import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from lightgen.model import blocks
from lightgen.model.config import PRESETS, StudentConfig
from lightgen.model.memory import Activations
from lightgen.model.precision import TrainingPrecision, mixed_precision
from lightgen.model.student import Grid, Student
from lightgen.training.objectives import MaskAndNoise, denoising_errors

TOKENS, HIDDEN, WORDS, COPIES = 144, 122, 24, 4
TOLERANCE = 0.04
PRODUCT = {"bf16": 2, "fp32": 4}


def _small(text: str, preset: str) -> StudentConfig:
    """The preset in small: its parts, ratios and flags."""
    sizes = PRESETS[preset]
    wide = sizes.head_width // sizes.width
    return sizes.model_copy(
        update={
            "width": 128, "heads": 4, "encoder_depth": 2, "decoder_depth": 3, "aligner_depth": 2, "dropout": 0.0,
            "text": text, "text_depth": 2 if text == "late" else 0, "head_width": 128 * wide, "text_dim": 512,
            "head_depth": min(sizes.head_depth, 4), "grid": 12,
        }
    )  # fmt: skip


def _as_on_a_gpu(query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None, dropout: float) -> Tensor:
    """Attention in the precision that it is given, for a CPU's is always float32 here."""
    mask = None if keep is None else keep[:, None, None, :]
    return torch.flatten(F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2), 2)


@pytest.fixture(autouse=True)
def _attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_attend", _as_on_a_gpu)
    monkeypatch.setattr(blocks, "IN_FLOAT32", ())


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recompute"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("text", ["late", "interleaved"])
@pytest.mark.parametrize("preset", ["lightgen-0.7b", "lightgen-official"])
@pytest.mark.parametrize(("sides", "bound"), [(1, True), (1, False), (2, False)], ids=["pretrain", "sft", "dpo"])
def test_the_formula_counts_what_autograd_keeps(
    preset: str, text: str, precision: TrainingPrecision, recompute: bool, sides: int, bound: bool
) -> None:
    """For one image, or for both of a pair: winner and loser are kept at once, and their text once."""
    config = _small(text, preset)
    # Weights and constants are the same in both, so the difference is that of two.
    counted = [_kept(config, count, precision, recompute, sides, bound) for count in (3, 1)]
    found = Activations(
        config, TOKENS, WORDS, COPIES, PRODUCT[precision], dropout=False, bound=bound, recompute=recompute
    )
    expected = found.text() + sides * found.image(HIDDEN)
    assert expected == pytest.approx((counted[0] - counted[1]) / 2, rel=TOLERANCE)


def test_null_controls_a_pair_is_not_one_image_nor_two_with_two_texts() -> None:
    config = _small("late", "lightgen-0.7b").model_copy(update={"aligner_depth": 12})
    counted = (_kept(config, 3, "fp32", False, 2, False) - _kept(config, 1, "fp32", False, 2, False)) / 2
    found = Activations(config, TOKENS, WORDS, COPIES, 4, dropout=False, bound=False)
    image, text = found.image(HIDDEN), found.text()
    assert abs(image + text - counted) > TOLERANCE * counted
    assert abs(2 * (image + text) - counted) > TOLERANCE * counted
    halved = Activations(config, TOKENS, WORDS, COPIES, 2, dropout=False, bound=False)
    assert abs(halved.text() + 2 * halved.image(HIDDEN) - counted) > TOLERANCE * counted


def test_masks_of_dropout_take_a_byte_a_number_and_none_in_dpo() -> None:
    """Two of the width and one of the MLP's in a self-block, and as many in a late block that reads the text."""
    config = PRESETS["lightgen-0.7b"]
    with_masks, without = (Activations(config, 256, 64, 4, dropout=dropout) for dropout in (True, False))
    masks = (2 + 4) * config.width * (16 * (256 - 218) + (16 + 16) * 256)
    assert with_masks.image(218) - without.image(218) == masks
    assert with_masks.text() - without.text() == (2 + 4) * config.width * 6 * 64


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("text", ["late", "interleaved"])
@pytest.mark.parametrize("preset", ["lightgen-0.7b", "lightgen-official"])
def test_a_pass_that_keeps_nothing_needs_one_block(preset: str, text: str, precision: TrainingPrecision) -> None:
    """A bound from above, and no more than half too high: what a kernel allocates inside is not seen here."""
    config = _small(text, preset)
    counted = (_peak(config, 9, precision) - _peak(config, 3, precision)) / 6
    found = Activations(config, TOKENS, WORDS, COPIES, PRODUCT[precision], dropout=False).forward(HIDDEN)
    assert counted <= found <= 1.5 * counted


def _given(config: StudentConfig, images: int) -> tuple[list[Tensor], Tensor, Tensor, MaskAndNoise]:
    order = torch.randperm(TOKENS).expand(images, -1)
    rows = images * COPIES * HIDDEN
    noise = torch.randn(rows, config.token_dim)
    drawn = MaskAndNoise(order[:, HIDDEN:], order[:, :HIDDEN], torch.randint(0, 1000, (rows,)), noise)
    sides = [torch.randn(images, TOKENS, config.token_dim) for _ in range(2)]
    keep = torch.ones(images, WORDS, dtype=torch.bool)
    return sides, torch.randn(images, WORDS, config.text_dim), keep, drawn


def _kept(
    config: StudentConfig, images: int, precision: TrainingPrecision, recompute: bool, sides: int, bound: bool
) -> int:
    """Bytes of all tensors that the loss keeps for its backward pass, each storage once."""
    student = Student(config).train()
    student.recompute = recompute
    both, words, keep, drawn = _given(config, images)
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor), mixed_precision(precision, "cpu"):
        text = student.text(words, keep)
        errors = [denoising_errors(student, side, text, Grid(12, 12), drawn, bound) for side in both[:sides]]
    assert all(error.requires_grad for error in errors)
    return sum(storage.nbytes() for storage in kept.values())


class LiveBytes(TorchDispatchMode):
    """Follows the bytes of all tensors that are made, and how many were alive at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, Tensor):
                self._note(each.untyped_storage())
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self._known:
            return
        self._known.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


def _peak(config: StudentConfig, images: int, precision: TrainingPrecision) -> int:
    student = Student(config).eval().requires_grad_(False)
    with LiveBytes() as live, mixed_precision(precision, "cpu"), torch.no_grad():
        both, words, keep, drawn = _given(config, images)
        denoising_errors(student, both[0], student.text(words, keep), Grid(12, 12), drawn, bound=False)
    return live.peak
