"""Flow `align-student`: student and preference pairs → aligned student, and a plain fine-tune as control."""

from prefect import flow

from flows.build_distill_set import distill_set
from flows.build_dpo_set import dpo_set
from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from flows.train_student import students
from schemas.ref import ArtifactRef
from tasks.align import align


def aligned(job: Job, checkpoint: ArtifactRef, pairs: ArtifactRef) -> dict[str, ArtifactRef]:
    """DPO, and the control where the recipe has one, by the names they have in the report."""
    models = {"dpo": align(checkpoint, pairs, job.part("align", job.recipe.align), **job.common)}
    if job.recipe.control:
        models["sft"] = align(checkpoint, pairs, job.recipe.control, **job.common)
    return models


@flow(name="align-student", flow_run_name=run_name, persist_result=False)
def align_student(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Align a student with DPO; student and pairs are made first where they are missing."""
    job = Job.of(recipe, overrides, store)
    checkpoint = students(job, distill_set(job))[-1]
    return aligned(job, checkpoint, dpo_set(job, checkpoint))
