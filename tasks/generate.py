"""Task `generate`: prompts → teacher images."""

from prefect import task

from lightgen.stages import generate as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="generate", task_run_name="generate {use}", **POLICY)
def generate(
    prompts: ArtifactRef, config: stage.GenerateConfig, store: str, seed: int, use: str = "train"
) -> ArtifactRef:
    """Let the teacher draw the prompts for `use`: train or held-out."""
    return run_stage(
        f"generate-{use}", store, lambda at, progress: stage.generate(prompts, config, at, seed=seed, progress=progress)
    )
