"""Task `align`: student and preference pairs → aligned student."""

from prefect import task

from lightgen.stages import align as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="align", task_run_name="align {config.objective}", **POLICY)
def align(checkpoint: ArtifactRef, pairs: ArtifactRef, config: stage.AlignConfig, store: str, seed: int) -> ArtifactRef:
    """Train on the pairs by DPO, or on their winners alone as control."""
    return run_stage(
        f"align-{config.objective}",
        store,
        lambda at, progress: stage.align(checkpoint, pairs, config, at, seed=seed, progress=progress),
    )
