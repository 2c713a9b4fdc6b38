"""Flow `align-student`: student and preference pairs → a plain fine-tune as control, then the aligned student."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer, run_name
from schemas.ref import ArtifactRef


@flow(name="align-student", flow_run_name=run_name, persist_result=False)
def align_student(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Align a student with DPO; student and pairs are made first where they are missing."""
    return Job.of(recipe, overrides, store).make("align")


if __name__ == "__main__":
    refer("align_student", "align")
