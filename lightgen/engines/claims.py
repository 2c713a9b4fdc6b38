"""Claims keep workers apart: who creates `claims/<unit>.<attempt>` first makes that unit of a version.

They only save work. A claim that is taken twice, or given up too early, costs a unit made twice; the first receipt
counts all the same. See docs/scale.md.
"""

import logging
import random
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lightgen.engines.heartbeats import Heartbeats
from lightgen.errors import StoreConflict, StoreVanished
from lightgen.storage.files import Files

log = logging.getLogger(__name__)

NAME = re.compile(r"^([a-z0-9-]+)\.(\d+)\Z")
SHORTEST_S, LONGEST_S = 0.2, 10.0  # between two looks of a worker that waits
LOOKS, WAITED = 20.0, 0.05  # a wait is so many looks long, and such a share of the time waited already


@dataclass(frozen=True)
class Claim:
    """One unit, taken for the `attempt`-th time."""

    unit: str
    attempt: int = 1

    @property
    def name(self) -> str:
        """Its name in `claims/`."""
        return f"{self.unit}.{self.attempt}"


@dataclass(frozen=True)
class Pace:
    """How a worker waits; `sleep` may do something useful meanwhile."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    dice: random.Random = field(default_factory=random.Random)

    def wait(self, waited_s: float, looked_s: float) -> None:
        """Sleep: the longer, the longer a look at the store takes and the longer the wait has lasted."""
        length_s = min(max(SHORTEST_S, LOOKS * looked_s, WAITED * waited_s), LONGEST_S)
        self.sleep(length_s * self.dice.uniform(0.5, 1.5))


class Claims:
    """Hands `worker` one unit after the other. `finished` lists the units that are done, by whomever."""

    def __init__(
        self,
        beats: Heartbeats,
        worker: str,
        units: Collection[str],
        finished: Callable[[], set[str]],
        pace: Pace | None = None,
    ) -> None:
        self.files, self.folder = beats.files, f"{beats.version}/claims"
        self.beats, self.worker, self.units = beats, worker, frozenset(units)
        self.finished, self.pace = finished, pace or Pace()
        self._free: list[Claim] = []
        self._holders: dict[str, str] = {}

    def take(self, stop: Callable[[], bool] = lambda: False) -> Claim | None:
        """A unit that nobody else makes; waits while living workers have all that is left. None: all are done.

        Between listing and claiming the unit may be finished: the caller looks for its receipt first. Once `stop` says
        so, None comes although units are left.
        """
        began, told = self.pace.now(), False
        while not stop():
            if (claim := self._create_one()) is not None:
                return claim
            looked = self.pace.now()
            free = self._look()
            if free is None:
                return None
            self._free = free
            if not free:
                told = told or self._tell()
                now = self.pace.now()
                self.pace.wait(now - began, now - looked)
        return None

    def give_back(self, claim: Claim) -> None:
        """The unit was finished already, so nobody needs the claim."""
        self.files.delete(f"{self.folder}/{claim.name}")
        self._free = []

    def _create_one(self) -> Claim | None:
        """One of the units last seen free. One that another has taken meanwhile says that the view is old."""
        while self._free:
            claim = self._free.pop()
            try:
                self.files.create(f"{self.folder}/{claim.name}", [self.worker.encode()], durable=False)
            except (StoreConflict, FileNotFoundError):  # the latter: on S3, taken and swept in this moment
                self._free = []
                return None
            if claim.attempt > 1:
                log.info("taking over %s: the worker that had it is gone", claim.unit)
            return claim
        return None

    def _look(self) -> list[Claim] | None:
        """Claims that can be tried, in random order: units that nobody has, or else those of the dead."""
        claimed = self._claimed()  # before the receipts: a unit that was finished and swept then looks finished
        left = self.units - self.finished()
        if not left:
            return None
        free = [Claim(unit) for unit in sorted(left - claimed.keys())] or self._of_the_dead(
            [claimed[unit] for unit in sorted(left)]
        )
        self.pace.dice.shuffle(free)
        return free

    def _claimed(self) -> dict[str, Claim]:
        """The newest attempt at each unit."""
        newest: dict[str, Claim] = {}
        for name in self.files.names(self.folder):
            if found := NAME.match(name):
                claim = Claim(found[1], int(found[2]))
                if claim.unit not in newest or newest[claim.unit].attempt < claim.attempt:
                    newest[claim.unit] = claim
        return newest

    def _of_the_dead(self, claims: list[Claim]) -> list[Claim]:
        """The next attempt at each of `claims` whose worker is dead."""
        try:
            holders = self._read([claim.name for claim in claims])
        except StoreVanished:
            return []  # given back or swept in this moment: the next look knows more
        others = self.beats.others_alive(self.worker)
        held = zip(claims, holders, strict=True)
        return [Claim(claim.unit, claim.attempt + 1) for claim, holder in held if holder not in others]

    def _read(self, names: list[str]) -> list[str]:
        """The worker of each claim; each claim is read once."""
        new = [name for name in names if name not in self._holders]
        for name, data in zip(new, self.files.read_many([f"{self.folder}/{name}" for name in new]), strict=True):
            self._holders[name] = data.decode("ascii", "replace")
        return [self._holders[name] for name in names]

    def _tell(self) -> bool:
        log.info("waiting for other workers: they have all that is left")
        return True


def sweep(files: Files, folder: str) -> None:
    """Remove the claims and heartbeats of a version that is sealed."""
    for part in ("claims", "workers"):
        files.delete_many([f"{folder}/{part}/{name}" for name in files.names(f"{folder}/{part}")])
