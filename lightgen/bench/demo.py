"""Speed of the demo's own training step, read from its recipe, against the published code's way."""

import statistics

from lightgen.bench.training import OURS, PUBLISHED, Published, Rate, one_step, prepare_training, random_features
from lightgen.errors import ConfigError
from lightgen.recipe import load_recipe
from lightgen.stages.pretrain import PretrainConfig
from lightgen.training.allocator import kept_memory
from lightgen.training.launch import LaunchConfig
from lightgen.training.numerics import deterministic_mode
from lightgen.training.objectives import MaskedDiffusion
from lightgen.training.speed import matmul_ceiling, timed

ROUNDS = 5
GRID, WORDS = 4, 15  # tokens a side at 64 px, and words of the longest caption


def bench_demo(steps: int, rounds: int = ROUNDS, threads: int | None = None) -> tuple[list[Rate], list[float]]:
    """Steps of the demo's last pretraining on random features of its sizes: ours, then the published code's way.

    Rounds of `steps` alternate their order. Rates are of the median round; by how much ours is faster in each round
    comes with them. `threads` are those of the recipe where they are not given.
    """
    config = load_recipe("demo").pretrain[-1]
    if not isinstance(config, PretrainConfig):
        raise ConfigError("the recipe demo has no pretraining of its own any more")
    sizes, batch = config.sizes(), config.batch_size
    settings = (
        random_features(sizes, GRID, WORDS, 4 * batch), batch, config.noise_copies, 0, config.variance_bound,
        config.masks, config.time_power,
    )  # fmt: skip
    loop = config.loop.model_copy(update={"steps": 10**9, "threads": threads or config.loop.threads})
    exact, launch = loop.model_copy(update={"precision": "fp32"}), LaunchConfig()
    seconds: dict[str, list[float]] = {OURS: [], PUBLISHED: []}
    with kept_memory("cpu"), deterministic_mode(loop.deterministic, loop.threads):
        ways = {
            OURS: prepare_training(sizes, GRID, MaskedDiffusion(*settings), loop, "cpu", launch),
            PUBLISHED: prepare_training(sizes, GRID, Published(*settings), exact, "cpu", launch),
        }
        for turn in range(rounds):
            for name in list(ways) if turn % 2 else list(reversed(ways)):
                trainer, loader = ways[name]
                seconds[name].append(
                    timed(lambda trainer=trainer, loader=loader: one_step(trainer, loader), steps, "cpu")[0]
                )
        work, ceiling = MaskedDiffusion(*settings).flops(ways[OURS][0].state.student) * batch, matmul_ceiling("cpu")
    rates = [_rate(name, batch, work, statistics.median(each), ceiling) for name, each in seconds.items()]
    return rates, [theirs / ours for ours, theirs in zip(seconds[OURS], seconds[PUBLISHED], strict=True)]


def _rate(name: str, batch: int, work: float, seconds: float, ceiling: float) -> Rate:
    return Rate(name, batch / seconds, work / seconds / 1e12, work / seconds / ceiling, 0.0)
