"""What a Prefect server needs before our deployments run: pool and an end to silent runs. Safe to repeat."""

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
SIGNS_OF_LIFE = {f"prefect.flow-run.{event}" for event in ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")}


def prepare() -> None:
    """Create what is missing on the server of the current settings."""
    with get_client(sync_client=True) as client:
        _pool(client)
        if not client.read_automations_by_name(ZOMBIES):
            _zombies().create()


def _pool(client: SyncPrefectClient) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        return


def _zombies() -> Automation:
    """A run whose process died unseen would say Running for ever: mark it after some missed heartbeats."""
    crash: ActionTypes = ChangeFlowRunState(
        name=None, state=StateType.CRASHED, message="no heartbeat: its process is gone", force=False
    )
    return Automation(
        name=ZOMBIES,
        description="A run that has sent no heartbeat for 90 s is marked as crashed",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect=SIGNS_OF_LIFE,
            match={"prefect.resource.id": ["prefect.flow-run.*"]},  # type: ignore[arg-type]
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[crash],
    )
