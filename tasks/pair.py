"""Task `pair`: teacher images and the student's own → judged preference pairs."""

from prefect import task

from lightgen.stages import pair as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="pair", task_run_name="pair", **POLICY)
def pair(images: ArtifactRef, checkpoint: ArtifactRef, config: stage.PairConfig, store: str, seed: int) -> ArtifactRef:
    """Keep the pairs in which the teacher is right and the student is not."""
    return run_stage(
        "pair", store, lambda at, progress: stage.pair(images, checkpoint, config, at, seed=seed, progress=progress)
    )
