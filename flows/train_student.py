"""Flow `train-student`: features → student, one resolution after the other."""

from prefect import flow

from flows.build_distill_set import DistillSet, distill_set
from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from schemas.ref import ArtifactRef
from tasks.pretrain import pretrain


def student(job: Job, data: DistillSet) -> ArtifactRef:
    """Train at each resolution, starting from the checkpoint of the one before."""
    checkpoint: ArtifactRef | None = None
    configs = job.part("pretrain", job.recipe.pretrain)
    for features, encoded, config in zip(data.features, job.recipe.encode, configs, strict=True):
        checkpoint = pretrain(features, config, **job.common, size_px=encoded.size_px, start=checkpoint)
    assert checkpoint is not None
    return checkpoint


@flow(name="train-student", flow_run_name=run_name, persist_result=False)
def train_student(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Train a student on the distillation set, which is made first where it is missing."""
    job = Job.of(recipe, overrides, store)
    return {"checkpoint": student(job, distill_set(job))}
