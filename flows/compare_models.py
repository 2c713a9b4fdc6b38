"""Flow `compare-models`: test captions, students of the store and models of others → one report."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer_to, run_name
from schemas.ref import ArtifactRef


@flow(name="compare-models", flow_run_name=run_name, persist_result=False)
def compare_models(
    recipe: RecipeName = "compare", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Judge other models beside the students by the same code; what others printed is shown apart."""
    return Job.of(recipe, overrides, store).make("evaluate")


if __name__ == "__main__":
    refer_to("compare_models", "--param recipe=compare", "run compare")
