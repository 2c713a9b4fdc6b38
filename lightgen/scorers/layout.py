"""Scorer `layout`: a picture as its colours and edges by place. Arithmetic, no network: it knows no objects.

It stands in for a feature network where none may be fetched. Two pictures are near one another here where they have
like colours and edges in like places, so a figure on it says nothing of what they show.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float32
from PIL import Image

from lightgen.scorers.base import ScorerMember, answer_table
from lightgen.storage.pixels import Pixels
from lightgen.work import Worker
from schemas.scores import VECTOR

CELLS, EDGE_CELLS, EDGE_PX, DIRECTIONS = 8, 4, 64, 4


class LayoutConfig(ScorerMember):
    """No settings."""

    ANSWERS: ClassVar[pa.Schema] = pa.schema([VECTOR])

    kind: Literal["layout"] = "layout"

    @property
    def network(self) -> str:
        """See `ScorerMember.network`."""
        return "layout (colours of 8 x 8 cells, edges of 4 x 4; no network)"

    def open(self, worker: Worker) -> "LayoutScorer":
        """See `ScorerMember.open`."""
        return LayoutScorer()


class LayoutScorer:
    """See the module."""

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        """See `Scorer.score`."""
        return answer_table(LayoutConfig.ANSWERS, [{VECTOR.name: layout(image).tobytes()} for image in images])


def layout(image: Pixels) -> Float32[np.ndarray, " 256"]:
    """192 mean colours in [-1, 1], rows first, then 64 mean strengths of edges, by cell and direction."""
    colors = _boxes(image, CELLS).astype(np.float32).ravel() / 127.5 - 1
    luma = _boxes(image, EDGE_PX).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) / 127.5
    down, across = np.gradient(luma)
    strength = np.hypot(down, across)
    # A line has no sign: directions half a turn apart are one.
    turn = np.round(np.arctan2(down, across) / (np.pi / DIRECTIONS)).astype(int) % DIRECTIONS
    side = EDGE_PX // EDGE_CELLS
    by_direction = np.stack([np.where(turn == one, strength, 0) for one in range(DIRECTIONS)], -1)
    edges = by_direction.reshape(EDGE_CELLS, side, EDGE_CELLS, side, DIRECTIONS).mean((1, 3))
    return np.concatenate([colors, edges.astype(np.float32).ravel()])


def _boxes(image: Pixels, cells: int) -> np.ndarray:
    """uint8 [cells, cells, 3]: means over boxes."""
    return np.asarray(Image.fromarray(image).resize((cells, cells), Image.Resampling.BOX))
