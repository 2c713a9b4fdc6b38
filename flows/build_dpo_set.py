"""Flow `build-dpo-set`: held-out captions → images of teacher and student → scores → preference pairs."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from schemas.ref import ArtifactRef


@flow(name="build-dpo-set", flow_run_name=run_name, persist_result=False)
def build_dpo_set(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Make the preference pairs of a student, which is trained first where it is missing."""
    return Job.of(recipe, overrides, store).make("pair")
