"""Which pairs a step of DPO reads, under which draws, and how much their masks hide: functions of seed and step."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lightgen.seeds import derive_seed
from lightgen.training.objectives import derive_uniform


@dataclass(frozen=True)
class Chunk:
    """Pairs of one step that hide equally many tokens: number `index` of its epoch's `order`."""

    epoch: int
    index: int


@dataclass(frozen=True)
class PairSchedule:
    """An endless stream of chunks of pairs, `ratios` of which make a step; a chunk has one share of hidden tokens.

    Rows are shuffled and cut into chunks, the last one filled with rows of the first. Every epoch visits all chunks in
    a new order, and may end within a step. With `draws` the chunks stay together for so many epochs, a cycle, in which
    each of them goes through all draws, in an order of its own: no pair is seen under a draw twice. Without `draws`,
    draws are the epochs, and every epoch cuts them in another way.
    """

    seed: int
    rows: int
    batch_size: int
    ratios: int = 1
    draws: int | None = None

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a step, and the draw of each."""
        chunks = [self._chunk(step, part) for part in range(self.ratios)]
        rows = np.concatenate([self._rows(chunk) for chunk in chunks])
        return rows, np.repeat([self._draw(chunk) for chunk in chunks], self._size)

    def mask_quantile(self, step: int, part: int) -> float:
        """Where in the mask law, from 0 to 1, the share of hidden tokens of one of the parts of a step lies."""
        chunk = self._chunk(step, part)
        if self.draws is not None:
            return quantile_of_draw(self._draw(chunk), self.draws)
        return derive_uniform(self.seed, "pair-mask-ratio", chunk.epoch, chunk.index)

    @property
    def _size(self) -> int:
        return self.batch_size // self.ratios

    @property
    def _chunks(self) -> int:
        return -(-self.rows // self._size)

    def _chunk(self, step: int, part: int) -> Chunk:
        epoch, place = divmod(step * self.ratios + part, self._chunks)
        return Chunk(epoch, int(_permutation(self._chunks, self.seed, "chunks", epoch)[place]))

    def _rows(self, chunk: Chunk) -> np.ndarray:
        order = _permutation(self.rows, self.seed, "pairs", chunk.epoch // (self.draws or 1))
        first = chunk.index * self._size
        return order.take(np.arange(first, first + self._size), mode="wrap")

    def _draw(self, chunk: Chunk) -> int:
        if self.draws is None:
            return chunk.epoch
        cycle, epoch = divmod(chunk.epoch, self.draws)
        return int(_permutation(self.draws, self.seed, "draws", cycle, chunk.index)[epoch])


def quantile_of_draw(draw: int, draws: int) -> float:
    """Where in the mask law a draw lies, one of `draws` at equal distances."""
    return (draw + 0.5) / draws


@lru_cache(maxsize=64)
def _permutation(count: int, *parts: object) -> np.ndarray:
    return np.random.default_rng(derive_seed(*parts)).permutation(count)
