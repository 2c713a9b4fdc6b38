"""Task `select`: captions → diverse, decontaminated prompts."""

from prefect import task

from lightgen.stages import select as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="select", task_run_name="select {use}", **POLICY)
def select(captions: ArtifactRef, config: stage.SelectConfig, store: str, seed: int, use: str = "train") -> ArtifactRef:
    """Choose the prompts for `use`: train, held-out or test."""
    return run_stage(
        f"select-{use}", store, lambda at, progress: stage.select(captions, config, at, seed=seed, progress=progress)
    )
