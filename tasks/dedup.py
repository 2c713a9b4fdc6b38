"""Task `dedup`: images → the ones to keep, with scores and reasons."""

from prefect import task

from lightgen.stages import dedup as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="dedup", task_run_name="dedup", **POLICY)
def dedup(images: ArtifactRef, config: stage.DedupConfig, store: str, seed: int) -> ArtifactRef:
    """Judge every image and keep the good ones once."""
    return run_stage("dedup", store, lambda at, progress: stage.dedup(images, config, at, seed=seed, progress=progress))
