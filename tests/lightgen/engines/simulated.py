"""Many workers in virtual time: hours of work of hundreds of workers pass in seconds, always in the same order."""

import heapq
import itertools
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from lightgen.engines.claims import Claims, Pace
from lightgen.engines.heartbeats import Heart, Heartbeats
from lightgen.errors import StoreConflict
from lightgen.storage.files import checked_key


class VirtualTime:
    """Threads of which one runs at a time; when all sleep, time leaps to the first that wakes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleepers: list[tuple[float, int, threading.Event]] = []
        self.order = itertools.count()
        self.ended = 0

    def run(self, jobs: Sequence[Callable[[], None]]) -> None:
        threads = [threading.Thread(target=self._live, args=(job, self._turn(0.0))) for job in jobs]
        [thread.start() for thread in threads]
        self._pass_on()
        [thread.join() for thread in threads]

    def sleep(self, seconds: float) -> None:
        turn = self._turn(seconds)
        self._pass_on()
        turn.wait()

    def _turn(self, seconds: float) -> threading.Event:
        turn = threading.Event()
        heapq.heappush(self.sleepers, (self.now + seconds, next(self.order), turn))
        return turn

    def _pass_on(self) -> None:
        if self.sleepers:
            self.now, _, turn = heapq.heappop(self.sleepers)
            turn.set()

    def _live(self, job: Callable[[], None], turn: threading.Event) -> None:
        turn.wait()
        try:
            with suppress(Died):
                job()
                self.ended += 1
        finally:
            self._pass_on()


class Died(Exception):
    """A worker is gone, without a word."""


class SimulatedFiles:
    """A store in memory whose requests take virtual time, and whose clock is not that of the workers."""

    def __init__(self, time: VirtualTime, scratch: Path, latency_s: float = 0.05, clock_s: float = 1e9) -> None:
        self.time, self.root, self.latency_s, self.clock_s = time, scratch, latency_s, clock_s
        self.uri = "simulated"
        self.folders: dict[str, dict[str, tuple[bytes, float]]] = {}
        self.dice = random.Random(1)

    def create(self, key, chunks, durable=True):
        folder, name = self._ask(key)
        data = b"".join(chunks)
        if folder.setdefault(name, (data, self.clock_s + self.time.now))[0] != data:
            raise StoreConflict(key)
        return "created"

    def read(self, key):
        folder, name = self._ask(key)
        if name not in folder:
            raise FileNotFoundError(key)
        return folder[name][0]

    def read_many(self, keys):
        return [self.read(key) for key in keys]

    def names(self, folder):
        return sorted(self.listing(folder))

    def listing(self, folder):
        found, _ = self._ask(f"{folder}/any")
        return {name: (len(data), at) for name, (data, at) in found.items()}

    def delete(self, key):
        folder, name = self._ask(key)
        folder.pop(name, None)

    def delete_many(self, keys):
        for key in keys:
            self.delete(key)

    def scratch(self, name):
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _ask(self, key):
        """A request: it takes a while, and then all of it happens at once."""
        folder, _, name = checked_key(key).rpartition("/")
        self.time.sleep(self.latency_s * self.dice.uniform(0.5, 1.5))
        return self.folders.setdefault(folder, {}), name


class Crowd:
    """`workers` workers on `shards` shards of about `shard_s` seconds each; counts how often each shard is made."""

    def __init__(self, root: Path, workers: int, shards: int, shard_s: float = 60.0, seed: int = 0) -> None:
        self.time = VirtualTime()
        self.files = SimulatedFiles(self.time, root)
        self.units = [f"{shard:05d}" for shard in range(shards)]
        self.dice = random.Random(seed)
        self.workers, self.shard_s = workers, shard_s
        self.made: dict[str, int] = dict.fromkeys(self.units, 0)
        self.finished_at = 0.0

    def run(self, life: Callable[["Crowd", int, random.Random, float], None], deaths: Sequence[float] = ()) -> float:
        """Share of shards that were made more than once; `deaths` are the moments at which the first workers die."""
        ends = [*deaths, *[float("inf")] * (self.workers - len(deaths))]
        seeds = [random.Random(self.dice.random()) for _ in ends]
        self.time.run([lambda w=w: life(self, w, seeds[w], ends[w]) for w in range(self.workers)])
        assert self.time.ended == self.workers - len(deaths), "a worker failed"
        assert self.done() == set(self.units)
        return (sum(self.made.values()) - len(self.units)) / len(self.units)

    def done(self) -> set[str]:
        return {name.removesuffix(".json") for name in self.files.names("v/x/done")}

    def is_done(self, unit: str) -> bool:
        try:
            self.files.read(f"v/x/done/{unit}.json")
        except FileNotFoundError:
            return False
        return True

    def make(self, unit: str, sleep: Callable[[float], None], dice: random.Random) -> None:
        sleep(self.shard_s * dice.lognormvariate(0.0, 0.4))
        self.made[unit] += 1
        self.files.create(f"v/x/done/{unit}.json", [b"{}"])
        self.finished_at = self.time.now


def with_claims(crowd: Crowd, number: int, dice: random.Random, dies_at: float) -> None:
    """A worker as it is."""
    beats = Heartbeats(crowd.files, "v/x")
    heart, due = Heart(beats, f"{number:032x}"), 0.0

    def sleep(seconds: float) -> None:
        nonlocal due
        end = crowd.time.now + seconds
        while crowd.time.now < end:
            if crowd.time.now >= dies_at:
                raise Died
            if crowd.time.now >= due:
                due = crowd.time.now + beats.beat_s
                heart.beat()
            crowd.time.sleep(max(0.0, min(end, due, dies_at) - crowd.time.now))

    sleep(0.001 + dice.uniform(0, 5))
    claims = Claims(beats, heart.worker, crowd.units, crowd.done, Pace(lambda: crowd.time.now, sleep, dice))
    while (claim := claims.take()) is not None:
        if crowd.is_done(claim.unit):
            claims.give_back(claim)
        else:
            crowd.make(claim.unit, sleep, dice)


def without_claims(crowd: Crowd, number: int, dice: random.Random, dies_at: float) -> None:
    """The null control: a worker that goes by receipts alone, in a random order."""
    crowd.time.sleep(dice.uniform(0, 5))
    for unit in dice.sample(crowd.units, len(crowd.units)):
        if not crowd.is_done(unit):
            crowd.make(unit, crowd.time.sleep, dice)
