"""Task `source`: caption corpora → captions."""

from prefect import task

from lightgen.stages import source as stage
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.run import run_stage


@task(name="source", task_run_name="source {use}", **POLICY)
def source(config: stage.SourceConfig, store: str, seed: int, use: str = "train") -> ArtifactRef:
    """Read the captions for `use`: train, held-out or test."""
    return run_stage(
        f"source-{use}", store, lambda at, progress: stage.source(config, at, seed=seed, progress=progress)
    )
