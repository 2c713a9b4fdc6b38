"""What a rank reads in a step: its part of the global batch, as microbatches that run one after the other."""

from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

import numpy as np

from lightgen.errors import ConfigError
from lightgen.training.data import Batch, Features, Schedule
from lightgen.training.layout import BatchLayout, copy_batch
from lightgen.training.ranks import World
from lightgen.training.workers import Prefetcher


@dataclass(frozen=True)
class BatchSplit:
    """How a global batch is split into microbatches: `accumulate` for every process of `world`."""

    world: World = field(default_factory=World)
    accumulate: int = 1

    @property
    def microbatches(self) -> int:
        """Microbatches of a global batch, in all processes together."""
        return self.world.size * self.accumulate

    def local_indices(self) -> range:
        """Indices of this rank's microbatches."""
        return range(self.world.rank * self.accumulate, (self.world.rank + 1) * self.accumulate)

    def check(self, batch_size: int) -> None:
        """Raise ConfigError unless all microbatches are of one size: every rank must do equal work."""
        if batch_size % self.microbatches:
            raise ConfigError(
                f"batch_size {batch_size} cannot be cut into {self.world.size} processes x {self.accumulate} "
                "microbatches (launch.accumulate); take a multiple"
            )


@runtime_checkable
class ReadsInto(Protocol):
    """Features that can write a batch into given memory, which saves a copy."""

    def read_into(self, rows: np.ndarray, epochs: np.ndarray, into: Batch) -> None:
        """Write the given rows over a batch of zeros, or over one that this wrote before."""
        ...


@dataclass(frozen=True)
class MicrobatchReader:
    """Reads this rank's microbatches of any step. A pure function of the step; workers get a pickled copy."""

    features: Features
    schedule: Schedule
    split: BatchSplit

    def read(self, step: int) -> list[Batch]:
        """The microbatches of a step."""
        return [self.features.batch(rows, epochs) for rows, epochs in self._rows(step)]

    def read_into(self, step: int, into: list[Batch]) -> None:
        """Write the microbatches of a step over those of another."""
        for (rows, epochs), batch in zip(self._rows(step), into, strict=True):
            if isinstance(self.features, ReadsInto):
                self.features.read_into(rows, epochs, batch)
            else:
                copy_batch(self.features.batch(rows, epochs), batch)

    def layout(self, step: int) -> BatchLayout:
        """The memory layout of a microbatch, the same for all."""
        rows, epochs = self._rows(step)[0]
        return BatchLayout.like(self.features.batch(rows[:1], epochs[:1]), len(rows))

    def _rows(self, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
        rows, epochs = self.schedule(step)
        size = len(rows) // self.split.microbatches
        cuts = [slice(index * size, (index + 1) * size) for index in self.split.local_indices()]
        return [(rows[cut], epochs[cut]) for cut in cuts]


@dataclass
class Loader:
    """Reads a rank's microbatches of any step, in this process or ahead in `workers` processes.

    The batches are the same either way. Workers start at the first call of `at`, and again where a step does not follow
    the one before. Features and schedule must be picklable for them. `pin` page-locks their memory, for training on a
    GPU. `prefetch` is in steps a worker.
    """

    features: Features
    schedule: Schedule
    split: BatchSplit = BatchSplit()
    workers: int = 0
    prefetch: int = 2
    pin: bool = False
    _prefetcher: Prefetcher | None = field(default=None, init=False, repr=False)

    def at(self, step: int) -> list[Batch]:
        """The microbatches of this rank in step `step`. They are valid until the next call, which reuses their memory.

        Raises TrainingFailed where a worker has died, and whatever reading raises.
        """
        reader = MicrobatchReader(self.features, self.schedule, self.split)
        if not self.workers:
            return reader.read(step)
        if self._prefetcher is None or self._prefetcher.step != step:
            self.close()
            layout, count = reader.layout(step), self.split.accumulate
            self._prefetcher = Prefetcher(reader.read_into, layout, count, step, self.workers, self.prefetch, self.pin)
        return self._prefetcher.next()

    def close(self) -> None:
        """End the workers, if any."""
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
