"""The engine `ray`: a worker actor a device of a Ray cluster. Its machines need the same code, models and store."""

import logging
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import Any, Self

from lightgen import errors
from lightgen.engines.board import Board, Own, started_board
from lightgen.engines.heartbeats import Heartbeats
from lightgen.engines.join import join
from lightgen.engines.serial import Serial
from lightgen.errors import ConfigError, LightgenError, WorkersLost
from lightgen.progress import SILENT
from lightgen.settings import no_usage_statistics
from lightgen.work import Context, RunConfig, Work

log = logging.getLogger(__name__)

HEAR_S = 0.5
RESTARTS = 3  # of each worker in one stage
PATIENCE_S = 60.0  # until the user is told that no worker has begun


class Hand:
    """What runs in an actor, with one device in view."""

    def __init__(self, device: str) -> None:
        self.device = device

    def work(self, line: str, worker_id: str) -> tuple[str, str] | None:
        """Take part in a work until it is done; the name and message of an error that is the user's."""
        try:
            join(Work.load(line), self.device, Own(SILENT), worker_id)
        except LightgenError as error:
            return type(error).__name__, str(error)
        return None


@dataclass(eq=False)
class Seat:
    """A device's worth of the cluster: the actor that has it, and its name in the claims of the stage."""

    gpu: bool
    actor: Any
    worker_id: str = ""


class Ray:
    """See `lightgen.work.Engine`. Entered, it may serve many stages; left, it frees the devices.

    Actors are restarted here and not by Ray: only so the engine hears of a death, and can free the claim at once.
    """

    def __init__(self, config: RunConfig) -> None:
        if (config.address or "").startswith("ray://"):
            raise ConfigError(
                f"run.address {config.address}: such a client loses its cluster after 30 s without a network; use the "
                "address host:port on a machine of the cluster, for example in `ray job submit`"
            )
        self.config = config
        self.seats: dict[bool, list[Seat]] = {}
        self.connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._free()
        if self.connected:
            _ray().shutdown()

    def run(self, work: Work, context: Context) -> None:
        """See `Engine.run`. A decision or a job is made in this process; before a job all devices are freed."""
        if work.needs.sort == "job":
            self._free()
        if work.needs.sort != "map":
            Serial().run(work, context)
            return
        board = started_board(work, context)
        if not board.complete:
            self._connect()
            _Stage(self, work, board, Heartbeats(context.store.files, work.plan.folder)).run()
        board.finish()

    def seats_for(self, work: Work) -> list[Seat]:
        """The workers for a stage, started where they are not there yet."""
        gpu, count = self._devices(work)
        seats = self.seats.setdefault(gpu, [])
        seats += [Seat(gpu, self.actor(gpu)) for _ in range(count - len(seats))]
        return seats[:count]

    def actor(self, gpu: bool) -> Any:
        """A new actor; it waits until the cluster has a device for it."""
        return _ray().remote(Hand).options(num_cpus=1, num_gpus=int(gpu)).remote("cuda" if gpu else "cpu")

    def _devices(self, work: Work) -> tuple[bool, int]:
        """Whether workers get a GPU each, and how many there are to be."""
        found = _ray().cluster_resources()
        gpus = int(found.get("GPU", 0)) if work.needs.gpu and self.config.device != "cpu" else 0
        if work.needs.gpu and self.config.device == "cuda" and not gpus:
            raise ConfigError(
                "run.device is cuda, but the Ray cluster shows no GPU; set it to auto, or see `ray status`"
            )
        count = (gpus or int(found.get("CPU", 1))) if self.config.workers == "auto" else self.config.workers
        return gpus > 0, max(1, min(count, work.plan.n_shards))

    def _connect(self) -> None:
        ray, address = _ray(), self.config.address
        if ray.is_initialized():
            return
        no_usage_statistics()
        here = {"_node_ip_address": "127.0.0.1"} if (address or "").startswith(("127.", "localhost:")) else {}
        alone = {"include_dashboard": False} if address is None else {"address": address}
        try:
            ray.init(logging_level="WARNING", **here, **alone)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"run.address {address}: no Ray cluster can be joined there: {error}") from None
        self.connected = True

    def _free(self) -> None:
        for seats in self.seats.values():
            for seat in seats:
                _ray().kill(seat.actor)
        self.seats = {}


class _Stage:
    """Follows the workers of one stage until it is complete, or all of them have ended."""

    def __init__(self, engine: Ray, work: Work, board: Board, beats: Heartbeats) -> None:
        self.engine, self.work, self.board, self.beats = engine, work, board, beats
        self.line = work.dump()
        self.calls: dict[Any, Seat] = {}
        self.restarts: Counter[Seat] = Counter()
        self.errors: list[LightgenError] = []

    def run(self) -> None:
        """Raises what the first worker to fail has raised, or WorkersLost."""
        for seat in self.engine.seats_for(self.work):
            self._call(seat)
        told = time.monotonic()
        while self.calls and not self.board.complete:
            ready, _ = _ray().wait(list(self.calls), timeout=HEAR_S)
            for call in ready:
                self._hear(call, self.calls.pop(call))
            self.board.look()
            if time.monotonic() - told > PATIENCE_S:
                told = self._tell_if_idle()
        self.board.look(at_once=True)
        if not self.board.complete:
            raise self.errors[0] if self.errors else self._lost("all its workers have ended")

    def _call(self, seat: Seat) -> None:
        seat.worker_id = uuid.uuid4().hex
        self.calls[seat.actor.work.remote(self.line, seat.worker_id)] = seat

    def _hear(self, call: Any, seat: Seat) -> None:
        ray = _ray()
        try:
            told = ray.get(call)
        except ray.exceptions.RayTaskError as error:
            log.error("a worker failed: %s", error)
            self.errors.append(self._lost(f"a worker failed: {error}"))
        except ray.exceptions.RayError as error:
            self._replace(seat, error)
        else:
            self.errors += [getattr(errors, told[0])(told[1])] if told else []

    def _replace(self, seat: Seat, error: Exception) -> None:
        """The actor is gone for good: others take over what it had, and a new one is wanted in its place."""
        _ray().kill(seat.actor)
        self.beats.bury(seat.worker_id)
        log.warning("a worker was lost: %s", str(error).splitlines()[0])
        seat.actor = self.engine.actor(seat.gpu)
        self.restarts[seat] += 1
        if self.restarts[seat] <= RESTARTS:
            self._call(seat)

    def _tell_if_idle(self) -> float:
        """Say so where nobody works: the cluster may have no device free."""
        if not self.beats.names():
            free = _ray().available_resources()
            log.warning("no worker runs; the cluster has free: CPU %s, GPU %s", free.get("CPU", 0), free.get("GPU", 0))
        return time.monotonic()

    def _lost(self, why: str) -> WorkersLost:
        return WorkersLost(f"{self.work.plan.stage} on Ray: {why}; finished shards stay, so the same command goes on")


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise ConfigError("run.engine is ray, which is not installed: pip install 'lightgen-distill[ray]'") from None
    return ray
