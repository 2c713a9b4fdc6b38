"""How many links will have a picture in the end, told by those that were tried."""

import logging
import math
from dataclasses import dataclass

log = logging.getLogger(__name__)
LEAST, SHARE, SURE = 100, 0.01, 1.96


@dataclass
class Outlook:
    """Counts what one worker tries of `total` links."""

    total: int
    tried: int = 0
    got: int = 0
    told: bool = False

    def add(self, tried: int, got: int) -> str:
        """Some more; a short note once enough were tried. The first time it is logged."""
        self.tried, self.got = self.tried + tried, self.got + got
        if not self.tried or self.tried < min(self.total, max(LEAST, SHARE * self.total)):
            return ""
        low, high = interval(self.got, self.tried)
        if not self.told:
            self.told = True
            log.info(
                "fetch: %s of the first %s links have a picture; of all %s it will be %s to %s (95 %%, if the rest is "
                "like these)",
                *(f"{n:,}" for n in (self.got, self.tried, self.total)),
                *(f"{round(end * self.total):,}" for end in (low, high)),
            )
        return f"{low:.0%} to {high:.0%} have a picture"


def interval(found: int, tried: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a share of which `found` of `tried` were seen."""
    share, z2 = found / tried, SURE**2
    middle = share + z2 / (2 * tried)
    reach = SURE * math.sqrt(share * (1 - share) / tried + z2 / (4 * tried**2))
    return max(0.0, (middle - reach) / (1 + z2 / tried)), min(1.0, (middle + reach) / (1 + z2 / tried))
