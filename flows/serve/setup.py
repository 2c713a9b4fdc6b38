"""What a Prefect server needs before our deployments run: pool and an end to silent runs. Safe to repeat."""

from collections.abc import Sequence
from datetime import timedelta

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectAlreadyExists

POOL = "lightgen"
ZOMBIES = "crash-zombies"
SILENCE = timedelta(seconds=90)  # three heartbeats of prefect.toml
ANY_RUN = "prefect.flow-run.*"
SIGNS_OF_LIFE = ("prefect.flow-run.*",)  # heartbeats, and every change of state: a paused run sends nothing more


def prepare() -> None:
    """Create what is missing on the server of the current settings."""
    with get_client(sync_client=True) as client:
        _pool(client)
        for earlier in client.read_automations_by_name(ZOMBIES):
            client.delete_automation(earlier.id)
    zombies().create()


def _pool(client: SyncPrefectClient) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        return


def zombies(
    name: str = ZOMBIES,
    silence: timedelta = SILENCE,
    runs: Sequence[str] = (ANY_RUN,),
    signs_of_life: Sequence[str] = SIGNS_OF_LIFE,
) -> Automation:
    """The rule that marks a run as crashed when nothing follows its last heartbeat for the time of `silence`.

    A run whose process died unseen would else say Running for ever. `runs` are ids of resources.
    """
    crash: ActionTypes = ChangeFlowRunState(
        name=None, state=StateType.CRASHED, message="no heartbeat: its process is gone", force=False
    )
    return Automation(
        name=name,
        description=f"A run that falls silent for {silence.seconds} s is marked as crashed",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect=set(signs_of_life),
            match={"prefect.resource.id": list(runs)},  # type: ignore[arg-type]
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=silence,
        ),
        actions=[crash],
    )
