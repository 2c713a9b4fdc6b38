"""Task `fit-vae`: kept images → the image encoder of the student."""

from prefect import task

from lightgen.stages import encode as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="fit-vae", task_run_name="fit-vae", **POLICY)
def fit_vae(kept: ArtifactRef, config: stage.EncodeConfig, store: str, seed: int) -> ArtifactRef:
    """Fit the image encoder, or record the published one that the recipe names."""
    return run_stage(
        "fit-vae", store, lambda at, progress: stage.fit_vae(kept, config, at, seed=seed, progress=progress)
    )
