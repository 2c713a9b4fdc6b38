"""Task `evaluate`: test prompts and models → report."""

from prefect import task

from lightgen.stages import evaluate as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="evaluate", task_run_name="evaluate", **POLICY)
def evaluate(
    prompts: ArtifactRef,
    models: dict[str, ArtifactRef | None],
    config: stage.EvaluateConfig,
    store: str,
    seed: int,
) -> ArtifactRef:
    """Judge what each of `models` draws (None is the teacher), paired, with intervals."""
    return run_stage(
        "evaluate",
        store,
        lambda at, progress: stage.evaluate(prompts, models, config, at, seed=seed, progress=progress),
    )
