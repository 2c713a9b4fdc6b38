"""Flow `retrain`, on a schedule: train again when there are captions that no student has seen, else do nothing."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from schemas.ref import ArtifactRef


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Read the captions of a recipe; train only if they are new."""
    return Job.of(recipe, overrides, store).make("pretrain")
