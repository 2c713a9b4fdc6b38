"""Flow `build-distill-set`: captions → prompts → texts; teacher images → scores → kept → features."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer, run_name
from schemas.ref import ArtifactRef


@flow(name="build-distill-set", flow_run_name=run_name, persist_result=False)
def build_distill_set(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Turn captions into encoded teacher images, the training set of a student."""
    job = Job.of(recipe, overrides, store)
    return job.make("encode", *(["texts"] if job.recipe.texts else []))


if __name__ == "__main__":
    refer("build_distill_set", "encode", "texts")
