"""Flow `build-dpo-set`: images of teacher, web and student → scores → preference pairs → their audit."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer, run_name
from schemas.ref import ArtifactRef


@flow(name="build-dpo-set", flow_run_name=run_name, persist_result=False)
def build_dpo_set(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Make the preference pairs of a student, which is trained first where it is missing."""
    job = Job.of(recipe, overrides, store)
    return job.make("audit" if job.recipe.audit else "pair")


if __name__ == "__main__":
    refer("build_dpo_set", "pair")
