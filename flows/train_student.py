"""Flow `train-student`: features → student, one resolution after the other."""

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer, run_name
from schemas.ref import ArtifactRef


@flow(name="train-student", flow_run_name=run_name, persist_result=False)
def train_student(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Train a student on the distillation set, which is made first where it is missing."""
    return Job.of(recipe, overrides, store).make("pretrain")


if __name__ == "__main__":
    refer("train_student", "pretrain")
