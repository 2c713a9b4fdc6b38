"""What a rank reads in a step: its share of the global batch, in pieces that are run one after the other."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

import numpy as np

from lightgen.errors import ConfigError
from lightgen.training.data import Batch, Features
from lightgen.training.packing import Packing, copy_into
from lightgen.training.ranks import World
from lightgen.training.workers import Ahead

RowsOf = Callable[[int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Share:
    """The part of every global batch that this process of `world` works on, cut into `accumulate` pieces."""

    world: World = field(default_factory=World)
    accumulate: int = 1

    @property
    def pieces(self) -> int:
        """Pieces of a whole global batch."""
        return self.world.size * self.accumulate

    def numbers(self) -> range:
        """The pieces of this rank."""
        return range(self.world.rank * self.accumulate, (self.world.rank + 1) * self.accumulate)

    def check(self, batch_size: int) -> None:
        """Refuse a global batch that the pieces do not divide: every rank must do equal work."""
        if batch_size % self.pieces:
            raise ConfigError(
                f"batch_size {batch_size} cannot be cut into {self.world.size} processes x {self.accumulate} pieces "
                "(launch.accumulate); take a multiple"
            )


@runtime_checkable
class Fills(Protocol):
    """Features that write a batch to where it is wanted; those of others are copied there."""

    def fill(self, rows: np.ndarray, visits: np.ndarray, into: Batch) -> None:
        """Write the given rows over a batch of zeros, or one that was filled before."""
        ...


@dataclass(frozen=True)
class Pieces:
    """What a rank reads; nothing but the step's number decides what that is. Workers get a copy of it."""

    features: Features
    rows_of: RowsOf
    share: Share

    def read(self, step: int) -> list[Batch]:
        """The pieces of a step."""
        return [self.features.batch(rows, visits) for rows, visits in self._cut(step)]

    def fill(self, step: int, into: list[Batch]) -> None:
        """Write the pieces of a step over those of another."""
        for (rows, visits), batch in zip(self._cut(step), into, strict=True):
            if isinstance(self.features, Fills):
                self.features.fill(rows, visits, batch)
            else:
                copy_into(self.features.batch(rows, visits), batch)

    def packing(self, step: int) -> Packing:
        """How a piece lies in memory: all are of one shape."""
        rows, visits = self._cut(step)[0]
        return Packing.like(self.features.batch(rows[:1], visits[:1]), len(rows))

    def _cut(self, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
        rows, visits = self.rows_of(step)
        size = len(rows) // self.share.pieces
        cuts = [slice(number * size, (number + 1) * size) for number in self.share.numbers()]
        return [(rows[cut], visits[cut]) for cut in cuts]


@dataclass
class Loader:
    """Reads a rank's pieces of any step, itself or with `workers` processes that read ahead; the batches are the same.

    Workers start at the first call of `at`, and anew where a step does not follow the one before; features and
    `rows_of` must be picklable for them. `pin` page-locks their memory, for training on a GPU.
    """

    features: Features
    rows_of: RowsOf
    share: Share = Share()
    workers: int = 0
    prefetch: int = 2
    pin: bool = False
    _ahead: Ahead | None = field(default=None, init=False, repr=False)

    def at(self, step: int) -> list[Batch]:
        """The pieces of this rank in step `step`, valid until the next call: memory of workers is used again.

        Raises TrainingFailed where a worker has died, and what reading raises.
        """
        pieces = Pieces(self.features, self.rows_of, self.share)
        if not self.workers:
            return pieces.read(step)
        if self._ahead is None or self._ahead.step != step:
            self.close()
            packing, count = pieces.packing(step), self.share.accumulate
            self._ahead = Ahead(pieces.fill, packing, count, step, self.workers, self.prefetch, self.pin)
        return self._ahead.next()

    def close(self) -> None:
        """End the workers, if any."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
