"""Flow `train-student`: features → student, one resolution after the other."""

from prefect import flow

from flows.build_distill_set import DistillSet, distill_set
from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from schemas.ref import ArtifactRef
from tasks.pretrain import pretrain


def students(job: Job, data: DistillSet) -> list[ArtifactRef]:
    """One checkpoint a resolution, each starting from the one before; the last is the student."""
    checkpoints: list[ArtifactRef] = []
    configs = job.part("pretrain", job.recipe.pretrain)
    for features, encoded, config in zip(data.features, job.recipe.encode, configs, strict=True):
        start = checkpoints[-1] if checkpoints else None
        checkpoints.append(pretrain(features, config, **job.common, size_px=encoded.size_px, start=start))
    return checkpoints


@flow(name="train-student", flow_run_name=run_name, persist_result=False)
def train_student(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Train a student on the distillation set, which is made first where it is missing."""
    job = Job.of(recipe, overrides, store)
    return {"checkpoint": students(job, distill_set(job))[-1]}
