"""What stands in the way of a training run, told by its settings alone."""

from collections.abc import Iterator

from lightgen.errors import ConfigError
from lightgen.problems import Problem
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig


def training_problems(batch_size: int, mask_ratios: int, loop: LoopConfig, launch: LaunchConfig) -> Iterator[Problem]:
    """Problems that both stages which train can have, `where` relative to the stage."""
    microbatches = launch.size * launch.accumulate
    if batch_size % microbatches:
        nearest = max(1, round(batch_size / microbatches)) * microbatches
        yield Problem(
            "recipe", "batch_size",
            f"a batch of {batch_size} cannot be cut into {microbatches} microbatches (processes x nodes x accumulate)",
            f"take a multiple, such as {nearest}, or change launch",
        )  # fmt: skip
    try:
        check_ratios("mask_ratios", mask_ratios, launch)
    except ConfigError as error:
        yield Problem("recipe", "mask_ratios", str(error), "change one of them")
    if launch.strategy == "fsdp" and launch.size > 1 and loop.optimizer.kind == "muon":
        yield Problem(
            "recipe", "loop.optimizer.kind", "muon needs whole matrices, and fsdp cuts them",
            "take launch.strategy: ddp, or kind: adamw",
        )  # fmt: skip
    if loop.steps == 0:
        yield Problem("recipe", "loop.steps", "0 steps train nothing", "give at least one")
    yield from _remarks(loop)


def check_ratios(where: str, mask_ratios: int, launch: LaunchConfig) -> None:
    """Refuse more shares of hidden tokens than microbatches can have: a microbatch has one. Raises ConfigError."""
    microbatches = launch.size * launch.accumulate
    if microbatches % mask_ratios:
        raise ConfigError(
            f"{where} is {mask_ratios}, but a step has {microbatches} microbatches "
            "(launch: nodes x processes x accumulate); take a multiple of it"
        )


def _remarks(loop: LoopConfig) -> Iterator[Problem]:
    warmup, rate = loop.optimizer.warmup_steps, loop.optimizer.lr
    if warmup > loop.steps > 0:
        yield Problem(
            "recipe", "loop.optimizer.warmup_steps",
            f"the warm-up of {warmup:,} steps outlasts the run of {loop.steps:,}: the rate ends at "
            f"{rate * loop.steps / warmup:.3g}, not {rate:g}",
            "shorten it, unless that is meant",
            "remark",
        )  # fmt: skip
