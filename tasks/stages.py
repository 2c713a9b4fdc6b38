"""The tasks: one a stage, each policy and one call; and one that comes before all of them."""

import logging
from typing import Final

from prefect import Task, task

from lightgen.operations.preflight import check
from lightgen.operations.stages import make
from lightgen.operations.step import Step
from lightgen.recipe import Recipe
from schemas.ref import ArtifactRef
from tasks.policies import POLICY
from tasks.reporting import plain_logs, sendable
from tasks.run import Place, run_step

log = logging.getLogger(__name__)

# What each stage is to a user of the paper.
TITLES: Final = {
    "source": "caption sourcing",
    "select": "caption diversity and decontamination",
    "generate": "image generation",
    "join": "images of several generators",
    "score": "image scoring",
    "filter": "diversity deduplication",
    "fit_vae": "VAE",
    "texts": "feature precomputation (text)",
    "encode": "feature precomputation (VAE)",
    "pretrain": "training job",
    "links": "links of pictures",
    "fetch": "download of pictures",
    "pictures": "import of pictures",
    "adopt": "import of pictures in GenEval's folders",
    "recaption": "captions of pictures",
    "pair": "filtering of preference pairs",
    "probe": "probes of the judge",
    "compare": "pairs judged side by side",
    "verdicts": "verdicts of people",
    "audit": "audit of preference pairs",
    "encode_pairs": "feature precomputation of pairs",
    "reference": "reference of DPO",
    "align": "training job (alignment)",
    "evaluate": "evaluation",
}


def _task(stage: str) -> Task[[Step, list[ArtifactRef], Place], ArtifactRef]:
    @task(name=f"{stage}: {TITLES[stage]}", task_run_name="{step.name}", **POLICY)
    def run(step: Step, refs: list[ArtifactRef], place: Place) -> ArtifactRef:
        return run_step(step, refs, place, make)

    return run


TASKS: Final = {stage: _task(stage) for stage in TITLES}


@task(name="check: what can be known before the first stage", task_run_name="check", **POLICY)
def check_recipe(recipe: Recipe, store: str, goals: tuple[str, ...]) -> None:
    """Raise ConfigError with every problem at once that would stop the run later."""
    plain_logs()
    log.info("check: store %s", store)
    with sendable():
        check(recipe, store, goals)
