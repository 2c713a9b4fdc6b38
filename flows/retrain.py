"""Flow `retrain`, on a schedule: train again when there are captions that no student has seen, else do nothing."""

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer, run_name
from lightgen.operations.retraining import due
from lightgen.storage.store import open_store
from schemas.ref import ArtifactRef


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> State | dict[str, ArtifactRef]:
    """Read the captions of a recipe; train only if no finished student has seen some of them."""
    job = Job.of(recipe, overrides, store)
    captions = job.make("source")["source"]
    found = due(open_store(job.store), job.recipe, captions)
    if not found.new:
        return Completed(message=found.reason)
    get_run_logger().info("training: %s", found.reason)
    return job.make("pretrain")


if __name__ == "__main__":
    refer("retrain", "pretrain")
