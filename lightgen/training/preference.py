"""Direct preference optimisation: prefer winners to losers more than the frozen reference does (model_facts 3.3)."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lightgen.model.masking import MaskLaw
from lightgen.model.student import Grid, Student
from lightgen.progress import SILENT, Progress
from lightgen.training.data import Batch, Features, rows_of_epoch_step
from lightgen.training.loader import RowsOf
from lightgen.training.objectives import (
    PAPER_MASKS,
    Draw,
    Figures,
    Place,
    as_tokens,
    errors,
    image_flops,
    make_draw,
    uniform_of,
    unread_parameters,
)


class Reference(Protocol):
    """Errors of the frozen reference; `passes` counts the forward passes over both images that they cost in a step."""

    @property
    def passes(self) -> int: ...

    def errors(self, measure: "Measure", batch: Batch) -> Float[Tensor, "2 p"]:
        """Mean prediction error of winners (row 0) and losers (row 1) under the batch's own draw."""
        ...


@dataclass(frozen=True)
class Measure:
    """How a model's error on a pair is measured: by what is hidden, at which noise, with which noise.

    All of it hangs on (seed, pair, visit) alone and is shared by both images and both models; dropout is off. With
    `draws` the visits repeat after so many, and their mask ratios are the law's quantiles at equal distances: the
    reference need then be asked only `draws` times a pair. A batch holds pairs of one visit.
    """

    copies: int
    seed: int
    masks: MaskLaw = PAPER_MASKS
    draws: int | None = None

    def errors(self, student: Student, batch: Batch) -> Float[Tensor, "2 p"]:
        """Mean prediction error of winners (row 0) and losers (row 1)."""
        student.eval()
        keys = batch.keys(self.seed)
        winners, losers = batch.latents(keys).unbind(1)
        tokens, grid = as_tokens(student, winners)
        draw = self.draw(batch, keys, tokens, grid)
        text = student.text(batch.text.float(), batch.keep)
        sides = (tokens, as_tokens(student, losers)[0])
        return torch.stack([errors(student, side, text, grid, draw, bound=False).mean(dim=(0, 2)) for side in sides])

    def draw(self, batch: Batch, keys: Tensor, tokens: Float[Tensor, "p n t"], grid: Grid) -> Draw:
        """What is hidden and added, for the pairs of one visit."""
        hidden = self.masks.hidden(grid.tokens, self._share(int(batch.visits[0])))
        return make_draw(keys, grid.tokens, tokens.shape[2], hidden, self.copies)

    def _share(self, visit: int) -> float:
        if self.draws is not None:
            return (visit + 0.5) / self.draws
        return uniform_of(self.seed, "pair-mask-ratio", visit)


@dataclass(frozen=True)
class LiveReference:
    """The reference as a model, asked in every step."""

    student: Student
    passes: int = 1

    @torch.no_grad()
    def errors(self, measure: Measure, batch: Batch) -> Float[Tensor, "2 p"]:
        return measure.errors(self.student, batch)


@dataclass(frozen=True)
class CachedReference:
    """The reference's errors, computed once for every (pair, visit); pairs in ascending order of their number."""

    ids: Int[Tensor, " n"]
    table: Float[Tensor, "n draws 2"]
    passes: int = 0

    def errors(self, measure: Measure, batch: Batch) -> Float[Tensor, "2 p"]:
        rows = torch.searchsorted(self.ids, batch.ids.cpu())
        assert bool((self.ids[rows] == batch.ids.cpu()).all()), "a pair that the reference was never asked about"
        return self.table[rows, batch.visits.cpu()].T.to(batch.mean.device)


@torch.no_grad()
def cache_reference(
    student: Student, pairs: Features, measure: Measure, batch_size: int, progress: Progress = SILENT
) -> CachedReference:
    """The errors of `student` on all pairs under all of `measure.draws`."""
    assert measure.draws is not None, "a reference without a bound of visits cannot be cached"
    device = student.null_text.device
    table = torch.zeros(len(pairs), measure.draws, 2)
    ids = torch.zeros(len(pairs), dtype=torch.long)
    progress.start("reference", len(pairs) * measure.draws, "pairs")
    for visit in range(measure.draws):
        for first in range(0, len(pairs), batch_size):
            rows = np.arange(first, min(first + batch_size, len(pairs)))
            batch = pairs.batch(rows, np.full(len(rows), visit)).to(device)
            table[rows, visit] = measure.errors(student, batch).T.cpu()
            ids[rows] = batch.ids.cpu()
            progress.advance(len(rows))
    progress.finish()
    order = ids.argsort()
    return CachedReference(ids[order], table[order])


@dataclass(frozen=True)
class Preference:
    """The DPO loss on pairs whose latents hold winner and loser."""

    features: Features
    reference: Reference
    measure: Measure
    batch_size: int
    beta: float

    def schedule(self) -> RowsOf:
        return partial(
            visits_of_step, self.measure.seed, self.measure.draws, rows=len(self.features), batch_size=self.batch_size
        )

    def loss(self, student: Student, batch: Batch, place: Place) -> tuple[Tensor, Figures]:
        reference = self.reference.errors(self.measure, batch)
        return preference_loss(self.measure.errors(student, batch), reference, self.beta)

    def flops(self, student: Student) -> float:
        forward = 2 * image_flops(student, self.features, self.measure.masks, self.measure.copies)
        return (3 + self.reference.passes) * forward

    def untrained(self, student: Student) -> list[nn.Parameter]:
        return unread_parameters(student, drops_captions=False)


def visits_of_step(
    seed: int, draws: int | None, step: int, rows: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a step, all at one visit; visits repeat after `draws`."""
    chosen, visits = rows_of_epoch_step(seed, step, rows, batch_size)
    return chosen, visits if draws is None else visits % draws


def preference_loss(
    policy: Float[Tensor, "2 p"], reference: Float[Tensor, "2 p"], beta: float
) -> tuple[Tensor, Figures]:
    """-mean over pairs of log sigmoid(-beta/2 [(policy - reference) of winner - (policy - reference) of loser]).

    Beside it the health of the run: implicit accuracy (ties count half), margins and the share below zero, and how far
    winner and loser have drifted from the reference.
    """
    gain = policy - reference
    margin = -0.5 * beta * (gain[0] - gain[1])
    seen = margin.detach().float()
    low, middle, high = seen.quantile(torch.tensor([0.1, 0.5, 0.9], device=seen.device)).unbind()
    figures = {
        "accuracy": ((seen > 0).float() + 0.5 * (seen == 0).float()).mean(),
        "margin": seen.mean(),
        "margin_p10": low,
        "margin_p50": middle,
        "margin_p90": high,
        "negative": (seen < 0).float().mean(),
        "winner_error": policy[0].detach().mean(),
        "loser_error": policy[1].detach().mean(),
        "winner_drift": gain[0].detach().mean(),
        "loser_drift": gain[1].detach().mean(),
    }
    return -F.logsigmoid(margin).mean(), figures
