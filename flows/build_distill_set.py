"""Flow `build-distill-set`: captions → prompts → teacher images → kept → features at each resolution."""

from dataclasses import dataclass
from typing import Any

from prefect import flow

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, run_name
from schemas.ref import ArtifactRef
from tasks.dedup import dedup
from tasks.encode import encode
from tasks.fit_vae import fit_vae
from tasks.generate import generate
from tasks.select import select
from tasks.source import source


@dataclass(frozen=True)
class DistillSet:
    """What the student is trained on; `features[i]` are those of `recipe.encode[i]`."""

    captions: ArtifactRef
    prompts: ArtifactRef
    images: ArtifactRef
    kept: ArtifactRef
    vae: ArtifactRef
    features: list[ArtifactRef]


def distill_set(job: Job) -> DistillSet:
    """Make the training set of a recipe, or find what is sealed already."""
    recipe = job.recipe
    captions = source(recipe.source, **job.common)
    prompts = select(captions, recipe.select, **job.common)
    images = generate(prompts, recipe.generate, **job.common)
    kept = dedup(images, recipe.dedup, **job.common)
    vae = fit_vae(kept, recipe.encode[-1], **job.common)
    features = [encode(kept, vae, config, **job.common) for config in recipe.encode]
    return DistillSet(captions, prompts, images, kept, vae, features)


@flow(name="build-distill-set", flow_run_name=run_name, persist_result=False)
def build_distill_set(
    recipe: RecipeName = "demo", overrides: Overrides = None, store: StoreAddress = None
) -> dict[str, Any]:
    """Turn captions into encoded teacher images, the training set of a student."""
    return vars(distill_set(Job.of(recipe, overrides, store)))
