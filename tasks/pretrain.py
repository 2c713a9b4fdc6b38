"""Task `pretrain`: features → student."""

from prefect import task

from lightgen.stages import pretrain as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="pretrain", task_run_name="pretrain {size_px} px", **POLICY)
def pretrain(
    features: ArtifactRef,
    config: stage.PretrainConfig,
    store: str,
    seed: int,
    size_px: int,
    start: ArtifactRef | None = None,
) -> ArtifactRef:
    """Train the student on features of `size_px`, from scratch or from the checkpoint `start`."""
    return run_stage(
        f"pretrain-{size_px}px",
        store,
        lambda at, progress: stage.pretrain(features, config, at, seed=seed, progress=progress, start=start),
    )
