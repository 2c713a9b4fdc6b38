"""Flow `evaluate-student`: test captions and all models of a recipe → report with intervals."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer, run_name
from schemas.ref import ArtifactRef


@flow(name="evaluate-student", flow_run_name=run_name, persist_result=False)
def evaluate_student(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Compare teacher, pretrained, fine-tuned and aligned student; what is missing is made first."""
    return Job.of(recipe, overrides, store).make("evaluate")


if __name__ == "__main__":
    refer("evaluate_student", "evaluate")
