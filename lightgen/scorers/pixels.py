"""Scorer `pixels`: size, contrast and perceptual hash, by arithmetic alone."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import pyarrow as pa

from lightgen.decisions.perceptual import contrast, luma, phash, shrink
from lightgen.scorers.base import ScorerMember
from lightgen.storage.pixels import Pixels
from lightgen.work import Worker
from schemas.scores import UNSCORED


class PixelsConfig(ScorerMember):
    """No settings."""

    ANSWERS: ClassVar[pa.Schema] = pa.schema(
        [
            pa.field("width", pa.int32(), metadata={"unit": "px"}),
            pa.field("height", pa.int32(), metadata={"unit": "px"}),
            pa.field("short_side", pa.int32(), metadata={"unit": "px"}),
            pa.field(
                "contrast",
                pa.float32(),
                metadata={"is": "greatest standard deviation of red, green and blue, 0 to 0.5"},
            ),
            pa.field("phash", pa.uint64(), metadata={"is": "64-bit DCT perceptual hash"}),
        ]
    )

    kind: Literal["pixels"] = "pixels"

    def open(self, worker: Worker) -> "PixelsScorer":
        """See `ScorerMember.open`."""
        return PixelsScorer()


class PixelsScorer:
    """See the module."""

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        """See `Scorer.score`."""
        columns = {
            "width": [image.shape[1] for image in images],
            "height": [image.shape[0] for image in images],
            "short_side": [min(image.shape[:2]) for image in images],
            "contrast": [contrast(image) for image in images],
            "phash": phash([shrink(luma(image)) for image in images]),
            **{field.name: [""] * len(images) for field in UNSCORED},
        }
        return pa.table(columns, schema=pa.schema([*PixelsConfig.ANSWERS, *UNSCORED]))
