"""Task `encode`: kept images → latent moments and token embeddings."""

from prefect import task

from lightgen.stages import encode as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="encode", task_run_name="encode {config.size_px} px", **POLICY)
def encode(kept: ArtifactRef, vae: ArtifactRef, config: stage.EncodeConfig, store: str, seed: int) -> ArtifactRef:
    """Encode images and captions once, so that training reads numbers only."""
    return run_stage(
        f"encode-{config.size_px}px",
        store,
        lambda at, progress: stage.encode(kept, vae, config, at, seed=seed, progress=progress),
    )
