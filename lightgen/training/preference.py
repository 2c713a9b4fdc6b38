"""Direct preference optimisation (DPO): prefer winners more than a frozen reference does (model_facts 3.3)."""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lightgen.model.flops import text_flops
from lightgen.model.masking import MaskLaw
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.training import counter_rng
from lightgen.training.data import Batch, Features
from lightgen.training.objectives import (
    PAPER_MASKS,
    Metrics,
    Microbatch,
    as_tokens,
    denoising_errors,
    draw_mask_and_noise,
    image_flops,
    unread_parameters,
)
from lightgen.training.pair_schedule import PairSchedule, quantile_of_draw

BOUND = 4.0  # times the mean margin that counts for a pair, at most, and a fraction of it at least


class Reference(Protocol):
    """The frozen reference model, by its denoising errors."""

    @property
    def passes(self) -> int:
        """Forward passes over both images of a pair that a step costs."""
        ...

    def denoising_errors(
        self, estimator: "PairErrorEstimator", batch: Batch, mask_quantile: float
    ) -> Float[Tensor, "2 p"]:
        """Mean denoising error of winners (row 0) and losers (row 1), under the mask and noise of the batch."""
        ...


@dataclass(frozen=True)
class PairErrorEstimator:
    """Monte Carlo estimate of the denoising loss of winner and loser under shared mask, timestep and noise.

    Order, timesteps and noise depend only on seed, pair and draw, and how many tokens all pairs of a batch hide on
    `mask_quantile`. Policy and reference therefore share them too. Dropout is off.

    With `draws` a pair has only that many different draws, which hide shares at equal distances of the mask law. The
    reference's errors can then be computed once for each pair and draw.
    """

    copies: int
    seed: int
    masks: MaskLaw = PAPER_MASKS
    draws: int | None = None

    def denoising_errors(self, student: Student, batch: Batch, mask_quantile: float) -> Float[Tensor, "2 p"]:
        """Mean denoising error of winners (row 0) and losers (row 1)."""
        student.eval()
        keys = batch.keys(self.seed)
        winners, losers = batch.latents(keys).unbind(1)
        tokens, grid = as_tokens(student, winners)
        hidden = self.masks.hidden(grid.tokens, mask_quantile)
        drawn = draw_mask_and_noise(keys, grid.tokens, tokens.shape[2], hidden, self.copies)
        text = student.text(batch.text.float(), batch.keep)
        sides = (tokens, as_tokens(student, losers)[0])
        errors = [denoising_errors(student, side, text, grid, drawn, bound=False) for side in sides]
        return torch.stack([each.mean(dim=(0, 2)) for each in errors])


@dataclass(frozen=True)
class LiveReference:
    """The reference as a model, which every step runs."""

    student: Student
    passes: int = 1

    @torch.no_grad()
    def denoising_errors(
        self, estimator: PairErrorEstimator, batch: Batch, mask_quantile: float
    ) -> Float[Tensor, "2 p"]:
        return estimator.denoising_errors(self.student, batch, mask_quantile)


@dataclass(frozen=True)
class CachedReference:
    """The reference's errors, computed once for every pair and draw; `ids` of the pairs ascend.

    They lie where the student does: a look into the memory of the CPU would wait for all that the GPU still has to do.
    """

    ids: Int[Tensor, " n"]
    table: Float[Tensor, "n draws 2"]
    passes: int = 0

    def to(self, device: torch.device) -> Self:
        """The errors on `device`."""
        return replace(self, ids=self.ids.to(device), table=self.table.to(device))

    def denoising_errors(
        self, estimator: PairErrorEstimator, batch: Batch, mask_quantile: float
    ) -> Float[Tensor, "2 p"]:
        return self.table[places_of(batch.ids, self.ids), batch.epochs].T


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
            errors = estimator.denoising_errors(student, batch, quantile_of_draw(draw, estimator.draws))
            table[rows, draw] = errors.T.float().cpu()
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

    def to(self, device: torch.device) -> Self:
        """The weights on `device`."""
        return replace(self, ids=self.ids.to(device), values=self.values.to(device))

    def of(self, ids: Int[Tensor, " p"]) -> Float[Tensor, " p"]:
        """Those of a batch."""
        return self.values[places_of(ids, self.ids)]


def places_of(ids: Int[Tensor, " p"], known: Int[Tensor, " n"]) -> Int[Tensor, " p"]:
    """Where `ids` are among those `known`, which ascend."""
    rows = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
    # Checked on the device: an assert of Python would wait for it.
    torch._assert_async((known[rows] == ids).all(), "a pair that nothing is known of")  # pyright: ignore[reportPrivateImportUsage]
    return rows


@dataclass(frozen=True)
class Preference:
    """The DPO loss on pairs, whose latents hold winner and loser. `beta` is the strength of the preference.

    `ratios`: different shares of hidden tokens in a step.
    With `shuffled` a coin decides for each pair whether its loser counts as the winner: what such training gains, it
    does not gain from preferences. `anchor`: see `preference_loss`.
    """

    features: Features
    reference: Reference
    estimator: PairErrorEstimator
    batch_size: int
    beta: float
    weights: PairWeights | None = None
    shuffled: bool = False
    ratios: int = 1
    anchor: float = 0.0

    def schedule(self) -> PairSchedule:
        seed, draws = self.estimator.seed, self.estimator.draws
        return PairSchedule(seed, len(self.features), self.batch_size, self.ratios, draws)

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        part = microbatch.index * self.ratios // microbatch.count
        mask_quantile = self.schedule().mask_quantile(microbatch.step, part)
        reference = self.reference.denoising_errors(self.estimator, batch, mask_quantile)
        policy = self.estimator.denoising_errors(student, batch, mask_quantile)
        if self.shuffled:
            swapped = label_coins(batch.ids, self.estimator.seed)
            policy, reference = (torch.where(swapped, errors.flip(0), errors) for errors in (policy, reference))
        weights = None if self.weights is None else self.weights.of(batch.ids)
        return preference_loss(policy, reference, self.beta, weights, self.anchor)

    def flops(self, student: Student) -> float:
        image = image_flops(student, self.features, self.estimator.masks, self.estimator.copies)
        text = text_flops(student.config, self.features.mean_text)
        return (3 + self.reference.passes) * (2 * image - text)

    def untrained(self, student: Student) -> list[nn.Parameter]:
        return unread_parameters(student, drops_captions=False)


def label_coins(ids: Int[Tensor, " p"], seed: int) -> Bool[Tensor, " p"]:
    """Whether the labels of a pair are swapped where they are shuffled: by seed and pair alone, in every epoch."""
    keys = counter_rng.stream(counter_rng.sample_keys(ids, torch.zeros_like(ids), seed), "label")
    return counter_rng.uniform(keys, 1)[:, 0] < 0.5


def preference_loss(
    policy: Float[Tensor, "2 p"],
    reference: Float[Tensor, "2 p"],
    beta: float,
    weights: Float[Tensor, " p"] | None = None,
    anchor: float = 0.0,
) -> tuple[Tensor, Metrics]:
    """-mean over pairs of log sigmoid(-beta/2 [(policy - reference) of winner - (policy - reference) of loser]).

    With `weights` the terms of the mean are multiplied by them. With `anchor`, what the winner's error has risen above
    the reference's is multiplied by it and added in the brackets: a margin made by forgetting winner and loser alike
    then counts for less (DPO-Positive, Pal et al. 2024).
    The metrics: implicit accuracy (ties count half), mean and quantiles of the margins, the share of negative margins,
    errors, and how far winner and loser have drifted from the reference. Quantiles are those of a microbatch; their
    mean over microbatches is not the quantile of the global batch.
    """
    drift = policy - reference
    margin = -0.5 * beta * (drift[0] - drift[1])
    seen = margin.detach().float()
    low, middle, high = (seen.quantile(share) for share in (0.1, 0.5, 0.9))
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
    terms = -F.logsigmoid(margin - 0.5 * beta * anchor * drift[0].clamp(min=0))
    return (terms if weights is None else weights * terms).mean(), metrics
