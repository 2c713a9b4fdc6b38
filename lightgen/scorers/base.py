"""The contract of every scorer: images and captions in, raw answers out, row for row; never a threshold."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from lightgen.config import Member
from lightgen.decisions.derive import DeriveConfig
from lightgen.storage.pixels import Pixels
from lightgen.work import Worker
from schemas.scores import UNSCORED, Unscored


class Scorer(Protocol):
    """Looks at images. An answer does not depend on what else is in the batch."""

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        """The columns of the member's `ANSWERS`, then why there are none; one row an image, in order."""
        ...


class ScorerMember(Member):
    """Settings of a scorer. `ANSWERS` are its columns, with units and ranges, all nullable."""

    ANSWERS: ClassVar[pa.Schema]

    @abstractmethod
    def open(self, worker: Worker) -> Scorer:
        """The scorer on the worker's device, weights loaded."""

    @property
    def wants_gpu(self) -> bool:
        """Whether it is much faster on a GPU."""
        return False

    @property
    def journals(self) -> bool:
        """Whether its answers are paid for or take long: finished batches are then kept until the version is sealed."""
        return self.wants_gpu

    @property
    def verdict(self) -> DeriveConfig | None:
        """How its answers become right or wrong and a score, where nobody says otherwise; None: not at all."""
        return None

    @property
    def network(self) -> str | None:
        """What its vectors are called, by content alone; None for a scorer that gives none."""
        return None

    @property
    def batch(self) -> int:
        """Images that it wants to see together."""
        return 64

    def flops(self, height_px: int, width_px: int) -> float | None:
        """Operations of looking at one image, by formula; None where there is no formula."""
        return None

    @property
    def weight_bytes(self) -> float:
        """Memory of its weights; 0 where it has none."""
        return 0.0


def answer_table(answers: pa.Schema, rows: Sequence[Mapping[str, Any] | Unscored]) -> pa.Table:
    """A scorer's table: each row a mapping of its columns, or the reason why there is none."""
    schema = pa.schema([*answers, *UNSCORED])
    nothing, scored = dict.fromkeys(answers.names), {"unscored": "", "unscored_detail": ""}
    filled = [
        {**nothing, "unscored": row.reason, "unscored_detail": row.detail}
        if isinstance(row, Unscored)
        else {**nothing, **row, **scored}
        for row in rows
    ]
    return pa.Table.from_pylist(filled, schema=schema)
