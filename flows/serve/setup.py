"""What a Prefect server needs before our deployments run: a work pool. Safe to repeat."""

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

POOL = "lightgen"
ZOMBIES = "crash-zombies"  # the rule of earlier releases, which took some paused runs for dead


def prepare() -> None:
    """Create what is missing on the server of the current settings, and remove what is no longer used."""
    with get_client(sync_client=True) as client:
        _pool(client)
        for rule in client.read_automations_by_name(ZOMBIES):
            client.delete_automation(rule.id)


def _pool(client: SyncPrefectClient) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        return
