"""What storing features in 8 bits changes in the loss of a trained student: the same batches, masks and noise each way.

Beside it stands what texts of other captions change: a student that does not read would show no change either.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lightgen.errors import ConfigError
from lightgen.generators.restore import load_student
from lightgen.model.student import Student
from lightgen.storage.quantised import bits_of, quantised_std, quantised_text, read_std, read_text
from lightgen.storage.store import Store
from lightgen.training.data import Batch
from lightgen.training.features_on_disk import open_features
from lightgen.training.objectives import MaskedDiffusion, Microbatch
from lightgen.training.texts_on_disk import open_texts

COPIES = 4
SEED = 0
Change = Callable[[Batch], Batch]


@dataclass(frozen=True)
class CodecLoss:
    """Mean loss over the batches, its difference from that of plain features, and the standard error of that."""

    name: str
    loss: float
    change: float
    error: float

    @property
    def relative(self) -> float:
        """The difference as a share of the loss of plain features."""
        return self.change / (self.loss - self.change)


def bench_codecs(store: Store, checkpoint: str, batches: int, batch_size: int) -> list[CodecLoss]:
    """Plain features first, then each codec, then texts of other captions. Raises ConfigError where one is in use."""
    version = store.open(checkpoint)
    features, texts = (store.open(version.parent(kind)) for kind in ("features", "texts"))
    data = open_features(features, open_texts(texts))
    if data.format.short_std or data.texts.format.quantised:
        raise ConfigError(f"{checkpoint} was trained on features in 8 bits; take one that was trained on plain ones")
    objective = MaskedDiffusion(data, min(batch_size, len(data)), COPIES, SEED, bound=False)
    schedule, student = objective.schedule(), load_student(version)
    changes: dict[str, Change] = {
        "plain": lambda batch: batch, "texts int8": with_int8_text, "deviations 8 bits": with_short_std,
        "both": lambda batch: with_short_std(with_int8_text(batch)), "texts of other captions": with_other_text,
    }  # fmt: skip
    losses = np.array([
        _losses(student, objective, data.batch(*schedule(step)), step, list(changes.values()))
        for step in range(batches)
    ])  # fmt: skip
    return [_summed(name, losses[:, place], losses[:, 0]) for place, name in enumerate(changes)]


def with_int8_text(batch: Batch) -> Batch:
    """The batch as it is read where texts are stored in int8."""
    text = batch.text.clone()
    for row, tokens in enumerate(batch.keep.sum(1).tolist()):
        coded = text[row, :tokens].contiguous()
        read_text(quantised_text(coded), bits_of(coded), coded.dtype)
        text[row, :tokens] = coded
    return replace(batch, text=text)


def with_short_std(batch: Batch) -> Batch:
    """The batch as it is read where deviations are stored in 8 bits; the batch itself where there are none."""
    if batch.std is None:
        return batch
    return replace(batch, std=_short(batch.std))


def with_other_text(batch: Batch) -> Batch:
    """The batch with each text at another sample."""
    return replace(batch, text=batch.text.roll(1, 0), keep=batch.keep.roll(1, 0))


def _short(std: Tensor) -> Tensor:
    found = torch.zeros_like(std)
    for row, raw in enumerate(quantised_std(std)):
        read_std(raw, found[row].view(-1, std.shape[-2] * std.shape[-1]).numpy())
    return found


@torch.no_grad()
def _losses(
    student: Student, objective: MaskedDiffusion, batch: Batch, step: int, changes: Sequence[Change]
) -> list[float]:
    found: list[float] = []
    for change in changes:
        torch.manual_seed(step)  # dropout is the same in all
        found.append(float(objective.loss(student, change(batch), Microbatch(step))[0]))
    return found


def _summed(name: str, losses: np.ndarray, plain: np.ndarray) -> CodecLoss:
    change = losses - plain
    error = float(change.std(ddof=1)) / math.sqrt(len(change)) if len(change) > 1 else math.nan
    return CodecLoss(name, float(losses.mean()), float(change.mean()), error)
