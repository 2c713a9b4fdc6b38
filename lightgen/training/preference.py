"""Direct preference optimisation (DPO): prefer winners more than a frozen reference does (model_facts 3.3)."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lightgen.model.masking import MaskLaw
from lightgen.model.student import Grid, Student
from lightgen.progress import SILENT, Progress
from lightgen.training import counter_rng
from lightgen.training.counter_rng import Keys
from lightgen.training.data import Batch, Features, Schedule, rows_of_step_within_epoch
from lightgen.training.objectives import (
    PAPER_MASKS,
    MaskAndNoise,
    Metrics,
    Microbatch,
    as_tokens,
    denoising_errors,
    derive_uniform,
    draw_mask_and_noise,
    image_flops,
    unread_parameters,
)

BOUND = 4.0  # times the mean margin that counts for a pair, at most, and a fraction of it at least


class Reference(Protocol):
    """The frozen reference model, by its denoising errors."""

    @property
    def passes(self) -> int:
        """Forward passes over both images of a pair that a step costs."""
        ...

    def denoising_errors(self, estimator: "PairErrorEstimator", batch: Batch) -> Float[Tensor, "2 p"]:
        """Mean denoising error of winners (row 0) and losers (row 1), under the mask and noise of the batch."""
        ...


@dataclass(frozen=True)
class PairErrorEstimator:
    """Monte Carlo estimate of the denoising loss of winner and loser under shared mask, timestep and noise.

    Mask, timesteps and noise depend only on seed, pair and epoch. Policy and reference therefore share them too.
    Dropout is off. All pairs of a batch must be of one epoch.

    With `draws` a pair has only that many different draws, and the epochs go through them again and again. The shares
    of hidden tokens are then quantiles of the mask law at equal distances. The reference's errors can be computed once
    for each pair and draw.
    """

    copies: int
    seed: int
    masks: MaskLaw = PAPER_MASKS
    draws: int | None = None

    def denoising_errors(self, student: Student, batch: Batch) -> Float[Tensor, "2 p"]:
        """Mean denoising error of winners (row 0) and losers (row 1)."""
        student.eval()
        keys = batch.keys(self.seed)
        winners, losers = batch.latents(keys).unbind(1)
        tokens, grid = as_tokens(student, winners)
        drawn = self.draw(batch, keys, tokens, grid)
        text = student.text(batch.text.float(), batch.keep)
        sides = (tokens, as_tokens(student, losers)[0])
        errors = [denoising_errors(student, side, text, grid, drawn, bound=False) for side in sides]
        return torch.stack([each.mean(dim=(0, 2)) for each in errors])

    def draw(self, batch: Batch, keys: Keys, tokens: Float[Tensor, "p n t"], grid: Grid) -> MaskAndNoise:
        """Mask, timesteps and noise of the pairs of a batch."""
        hidden = self.masks.hidden(grid.tokens, self.mask_quantile(int(batch.epochs[0])))
        return draw_mask_and_noise(keys, grid.tokens, tokens.shape[2], hidden, self.copies)

    def mask_quantile(self, epoch: int) -> float:
        """Where in the mask law, from 0 to 1, the share of hidden tokens of an epoch lies."""
        if self.draws is not None:
            return (epoch + 0.5) / self.draws
        return derive_uniform(self.seed, "pair-mask-ratio", epoch)


@dataclass(frozen=True)
class LiveReference:
    """The reference as a model, which every step runs."""

    student: Student
    passes: int = 1

    @torch.no_grad()
    def denoising_errors(self, estimator: PairErrorEstimator, batch: Batch) -> Float[Tensor, "2 p"]:
        return estimator.denoising_errors(self.student, batch)


@dataclass(frozen=True)
class CachedReference:
    """The reference's errors, computed once for every pair and draw; `ids` of the pairs ascend."""

    ids: Int[Tensor, " n"]
    table: Float[Tensor, "n draws 2"]
    passes: int = 0

    def denoising_errors(self, estimator: PairErrorEstimator, batch: Batch) -> Float[Tensor, "2 p"]:
        rows = places_of(batch.ids.cpu(), self.ids)
        return self.table[rows, batch.epochs.cpu()].T.to(batch.mean.device)


@torch.no_grad()
def cache_reference(
    student: Student, pairs: Features, estimator: PairErrorEstimator, batch_size: int, progress: Progress = SILENT
) -> CachedReference:
    """The errors of `student` on all pairs under all draws of `estimator`."""
    assert estimator.draws is not None, "a reference without a bound of draws cannot be cached"
    device = student.null_text.device
    table = torch.zeros(len(pairs), estimator.draws, 2)
    ids = torch.zeros(len(pairs), dtype=torch.long)
    progress.start("reference", len(pairs) * estimator.draws, "pairs")
    for draw in range(estimator.draws):
        for first in range(0, len(pairs), batch_size):
            rows = np.arange(first, min(first + batch_size, len(pairs)))
            batch = pairs.batch(rows, np.full(len(rows), draw)).to(device)
            table[rows, draw] = estimator.denoising_errors(student, batch).T.cpu()
            ids[rows] = batch.ids.cpu()
            progress.advance(len(rows))
    progress.finish()
    order = ids.argsort()
    return CachedReference(ids[order], table[order])


@dataclass(frozen=True)
class PairWeights:
    """How much each pair counts, with mean 1; `ids` of the pairs ascend."""

    ids: Int[Tensor, " n"]
    values: Float[Tensor, " n"]

    @staticmethod
    def of_margins(ids: Int[Tensor, " n"], margins: Float[Tensor, " n"]) -> "PairWeights":
        """In proportion to the margin, at most BOUND times as much or as little as the mean one.

        After the bounds they are scaled to mean 1, so that the rate of learning stays what it is without them.
        """
        order = ids.argsort()
        mean = margins.double().mean().clamp(min=1e-6)  # right images may lead over wrong ones by nothing
        share = (margins[order].double() / mean).clamp(1 / BOUND, BOUND)
        return PairWeights(ids[order], (share / share.mean()).float())

    def of(self, ids: Int[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Those of a batch, on its device."""
        return self.values[places_of(ids.cpu(), self.ids)].to(ids.device)


def places_of(ids: Int[Tensor, " p"], known: Int[Tensor, " n"]) -> Int[Tensor, " p"]:
    """Where `ids` are among those `known`, which ascend."""
    rows = torch.searchsorted(known, ids)
    assert bool((known[rows.clamp(max=len(known) - 1)] == ids).all()), "a pair that nothing is known of"
    return rows


@dataclass(frozen=True)
class Preference:
    """The DPO loss on pairs, whose latents hold winner and loser. `beta` is the strength of the preference.

    With `shuffled` a coin decides for each pair whether its loser counts as the winner: what such training gains, it
    does not gain from preferences.
    """

    features: Features
    reference: Reference
    estimator: PairErrorEstimator
    batch_size: int
    beta: float
    weights: PairWeights | None = None
    shuffled: bool = False

    def schedule(self) -> Schedule:
        seed, draws = self.estimator.seed, self.estimator.draws
        return partial(pairs_of_step, seed, draws, rows=len(self.features), batch_size=self.batch_size)

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        reference = self.reference.denoising_errors(self.estimator, batch)
        policy = self.estimator.denoising_errors(student, batch)
        if self.shuffled:
            swapped = label_coins(batch.ids, self.estimator.seed)
            policy, reference = (torch.where(swapped, errors.flip(0), errors) for errors in (policy, reference))
        weights = None if self.weights is None else self.weights.of(batch.ids)
        return preference_loss(policy, reference, self.beta, weights)

    def flops(self, student: Student) -> float:
        forward = 2 * image_flops(student, self.features, self.estimator.masks, self.estimator.copies)
        return (3 + self.reference.passes) * forward

    def untrained(self, student: Student) -> list[nn.Parameter]:
        return unread_parameters(student, drops_captions=False)


def pairs_of_step(seed: int, draws: int | None, step: int, rows: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a step and their epoch, one for all; with `draws` the epochs repeat after so many."""
    chosen, epochs = rows_of_step_within_epoch(seed, step, rows, batch_size)
    return chosen, epochs if draws is None else epochs % draws


def label_coins(ids: Int[Tensor, " p"], seed: int) -> Bool[Tensor, " p"]:
    """Whether the labels of a pair are swapped where they are shuffled: by seed and pair alone, in every epoch."""
    keys = counter_rng.stream(counter_rng.sample_keys(ids, torch.zeros_like(ids), seed), "label")
    return counter_rng.uniform(keys, 1)[:, 0] < 0.5


def preference_loss(
    policy: Float[Tensor, "2 p"],
    reference: Float[Tensor, "2 p"],
    beta: float,
    weights: Float[Tensor, " p"] | None = None,
) -> tuple[Tensor, Metrics]:
    """-mean over pairs of log sigmoid(-beta/2 [(policy - reference) of winner - (policy - reference) of loser]).

    With `weights` the terms of the mean are multiplied by them.
    The metrics: implicit accuracy (ties count half), mean and quantiles of the margins, the share of negative margins,
    errors, and how far winner and loser have drifted from the reference. Quantiles are those of a microbatch; their
    mean over microbatches is not the quantile of the global batch.
    """
    drift = policy - reference
    margin = -0.5 * beta * (drift[0] - drift[1])
    seen = margin.detach().float()
    low, middle, high = seen.quantile(torch.tensor([0.1, 0.5, 0.9], device=seen.device)).unbind()
    metrics = {
        "accuracy": ((seen > 0).float() + 0.5 * (seen == 0).float()).mean(),
        "margin": seen.mean(),
        "margin_p10": low,
        "margin_p50": middle,
        "margin_p90": high,
        "negative": (seen < 0).float().mean(),
        "winner_error": policy[0].detach().mean(),
        "loser_error": policy[1].detach().mean(),
        "winner_drift": drift[0].detach().mean(),
        "loser_drift": drift[1].detach().mean(),
    }
    terms = -F.logsigmoid(margin)
    return (terms if weights is None else weights * terms).mean(), metrics
