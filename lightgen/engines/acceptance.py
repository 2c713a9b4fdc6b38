"""Ends a map when its first shards show that more rows will be rejected than its recipe allows."""

import math

from lightgen.errors import TooManyRejects
from schemas.documents import Receipt

SHARDS, ROWS = 3, 100  # fewer may be odd ones
SURE = 5.0  # standard deviations


class Acceptance:
    """Counts the shards of one worker; shards that were made before do not count."""

    def __init__(self, stage: str, limit: float) -> None:
        self.stage, self.limit = stage, limit
        self.shards = self.rows = self.rejected = 0
        self.reasons: dict[str, int] = {}

    def add(self, receipt: Receipt) -> None:
        """One shard more. Raises TooManyRejects where the true share of rejects is above the limit for certain."""
        self.shards += 1
        self.rows += receipt.rows_in
        self.rejected += receipt.rows_rejected
        for reason, count in receipt.reject_reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        if self.shards >= SHARDS and self.rows >= ROWS and least_share(self.rejected, self.rows) > self.limit:
            raise self._too_many()

    def _too_many(self) -> TooManyRejects:
        top = sorted(self.reasons.items(), key=lambda item: -item[1])[:5]
        listed = ", ".join(f"{count:,} {reason}" for reason, count in top)
        return TooManyRejects(
            f"{self.stage}: {self.rejected:,} of the first {self.rows:,} rows rejected ({listed}), and "
            f"{self.limit:.0%} are allowed. Stopped before more is paid for; finished shards stay. Repair the "
            "input, or raise max_reject_fraction"
        )


def least_share(found: int, rows: int) -> float:
    """Lower end of Wilson's interval for a share of which `found` of `rows` were seen, SURE deviations wide."""
    if not found:
        return 0.0  # what rounding makes of the formula is more than a limit of 0
    share, z2 = found / rows, SURE**2
    middle = share + z2 / (2 * rows)
    reach = SURE * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2))
    return max(0.0, (middle - reach) / (1 + z2 / rows))
