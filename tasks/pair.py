"""Task `pair`: images of teacher and student, or of the student alone → judged preference pairs."""

from prefect import task

from lightgen.stages import pair as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="pair", task_run_name="pair", **POLICY)
def pair(drawn: ArtifactRef, checkpoint: ArtifactRef, config: stage.PairConfig, store: str, seed: int) -> ArtifactRef:
    """Keep the pairs in which the one image is right and the other is not."""
    return run_stage(
        "pair", store, lambda at, progress: stage.pair(drawn, checkpoint, config, at, seed=seed, progress=progress)
    )
