"""Flow `evaluate-student`: test captions and all models of a recipe → report with intervals and galleries."""

from prefect import flow

from flows.align_student import aligned
from flows.build_distill_set import DistillSet, distill_set
from flows.build_dpo_set import dpo_set
from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from flows.train_student import students
from schemas.ref import ArtifactRef
from tasks.evaluate import evaluate
from tasks.select import select
from tasks.source import source


def evaluated(job: Job, models: dict[str, ArtifactRef | None]) -> ArtifactRef:
    """Judge `models` on the test captions; None is the teacher."""
    test = job.part("test", job.recipe.test)
    captions = source(test.source, **job.common, use="test")
    prompts = select(captions, test.select, **job.common, use="test")
    return evaluate(prompts, models, job.part("evaluate", job.recipe.evaluate), **job.common)


def whole_loop(job: Job) -> ArtifactRef:
    """Captions to report: every arrow once, each found where it is sealed already."""
    data: DistillSet = distill_set(job)
    *earlier, pretrained = students(job, data)
    models = aligned(job, pretrained, dpo_set(job, pretrained))
    sizes = [f"{encoded.size_px} px stage" for encoded in job.recipe.encode]
    stages = dict(zip(sizes, earlier, strict=False))
    return evaluated(job, {"teacher": None, "pretrained": pretrained, **models, **stages})


@flow(name="evaluate-student", flow_run_name=run_name, persist_result=False)
def evaluate_student(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, ArtifactRef]:
    """Compare teacher, pretrained, fine-tuned and aligned student; what is missing is made first."""
    return {"report": whole_loop(Job.of(recipe, overrides, store))}
