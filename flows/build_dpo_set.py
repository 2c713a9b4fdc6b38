"""Flow `build-dpo-set`: held-out captions → images of teacher and student, or of the student alone → judged pairs."""

from prefect import flow

from flows.build_distill_set import distill_set
from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from flows.train_student import students
from schemas.ref import ArtifactRef
from tasks.generate import generate
from tasks.pair import pair
from tasks.select import select
from tasks.source import source


def dpo_set(job: Job, checkpoint: ArtifactRef) -> ArtifactRef:
    """Let the student draw captions new to it, the teacher too where it is to win, and keep the telling pairs."""
    held_out = job.part("held_out", job.recipe.held_out)
    captions = source(held_out.source, **job.common, use="held-out")
    prompts = select(captions, held_out.select, **job.common, use="held-out")
    pairing = job.part("pair", job.recipe.pair)
    if pairing.winner == "student":
        return pair(prompts, checkpoint, pairing, **job.common)
    # Weights by source are those of the training captions; held-out ones come from sources of their own.
    drawing = job.recipe.generate.model_copy(update={"samples_by_source": {}})
    images = generate(prompts, drawing, **job.common, use="held-out")
    return pair(images, checkpoint, pairing, **job.common)


@flow(name="build-dpo-set", flow_run_name=run_name, persist_result=False)
def build_dpo_set(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Make the preference pairs of a student, which is trained first where it is missing."""
    job = Job.of(recipe, overrides, store)
    return {"pairs": dpo_set(job, students(job, distill_set(job))[-1])}
