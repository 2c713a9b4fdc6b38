"""Marks runs as crashed that say Running though their process is gone, by their state and their heartbeats.

An automation of Prefect does not: it counts events in the order in which a busy server handles them, and took a pause
that had overtaken a heartbeat for silence. See docs/decisions/0028.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.exceptions import PrefectException
from prefect.settings.models.flows import FlowsSettings
from prefect.states import Crashed

log = logging.getLogger(__name__)

HEARTBEAT = "prefect.flow-run.heartbeat"
MISSED = 3  # heartbeats in a row
SILENCE_S = 90.0  # no run is given up sooner: three heartbeats of prefect.toml
UNKNOWN_S = float(FlowsSettings.model_fields["heartbeat_frequency"].default)  # from the first heartbeat to the second
EVERY_S = 15.0  # from one look to the next
MESSAGE = "no heartbeat: its process is gone"
RUNS_AT_ONCE = 200  # of one answer of the server


@dataclass(frozen=True)
class _Heard:
    """The last that was heard of a run: its state and its newest heartbeat, and when the watcher first saw both."""

    state: UUID | None
    heartbeat: UUID
    every_s: float
    at: float


class SilentRuns:
    """The runs of one server in one of `states`, and since when each is silent by the clock `now` of the watcher.

    What happened while nobody looked is no silence: a run has its full time from the first look on.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        silence_s: float = SILENCE_S,
        states: Collection[StateType] = (StateType.RUNNING,),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client, self.silence_s, self.states, self.now = client, silence_s, list(states), now
        self._heard: dict[UUID, _Heard] = {}

    def give_up(self) -> list[FlowRun]:
        """Mark those as crashed of which no heartbeat came for the time of three, and return them.

        A run that never sent one is left alone, for it may send none. Raises what the client raises.
        """
        runs = [run for run in self._runs() if self._listen(run)]
        silent = [run for run in runs if self._is_silent(self._heard[run.id])]
        for run in silent:
            self.client.set_flow_run_state(run.id, Crashed(message=MESSAGE))
        self._heard = {run.id: self._heard[run.id] for run in runs}
        return silent

    def _runs(self) -> list[FlowRun]:
        chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=self.states)))
        found: list[FlowRun] = []
        while len(page := self.client.read_flow_runs(flow_run_filter=chosen, limit=RUNS_AT_ONCE, offset=len(found))):
            found += page
        return found

    def _listen(self, run: FlowRun) -> bool:
        """Whether anything was ever heard of `run`; notes what is new."""
        chosen = EventFilter(
            event=EventNameFilter(name=[HEARTBEAT]), resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"])
        )
        newest = self.client.read_events(chosen, limit=2).events
        if not newest:
            return False
        last = self._heard.get(run.id)
        if last is None or (last.state, last.heartbeat) != (run.state_id, newest[0].id):
            every_s = (newest[0].occurred - newest[-1].occurred).total_seconds() if len(newest) > 1 else UNKNOWN_S
            self._heard[run.id] = _Heard(run.state_id, newest[0].id, every_s, self.now())
        return True

    def _is_silent(self, last: _Heard) -> bool:
        return self.now() - last.at > max(self.silence_s, MISSED * last.every_s)


def watch(end: threading.Event, every_s: float = EVERY_S, silence_s: float = SILENCE_S) -> None:
    """Give up silent runs on the server of the current settings until `end` is set; for a thread of its own."""
    with get_client(sync_client=True) as client:
        runs = SilentRuns(client, silence_s)
        while not end.wait(every_s):
            try:
                for run in runs.give_up():
                    log.warning("run %s fell silent: it is marked as crashed", run.name)
            except (httpx.HTTPError, PrefectException) as trouble:  # what could not be heard is no silence
                log.warning("silent runs are not looked for now: %s", trouble)
                runs = SilentRuns(client, silence_s)
