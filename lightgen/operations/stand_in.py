"""A student of two steps, for rehearsals of recipes that judge checkpoints of a store: an empty store has none."""

from dataclasses import replace
from typing import Any, Final

from lightgen.generators.student import StudentGeneratorConfig
from lightgen.operations.small import STAND_IN
from lightgen.operations.stages import make
from lightgen.operations.step import walk
from lightgen.operations.steps import steps_of
from lightgen.recipe import Recipe
from lightgen.stages.models import GeneratorModel
from lightgen.work import Context

RECIPE: Final[dict[str, Any]] = {
    "name": "stand-in", "source": {"corpora": [{"kind": "scenes", "split": "train", "count": 12}]},
    "select": {"near_duplicates": None},
    "generate": {"generator": {"kind": "scenes"}, "size_px": 32, "format": "png"},
    "filter": {"rules": [], "repeats": []},
    "texts": {"encoder": {"kind": "words", "dim": 16}},
    "encode": [{"size_px": 32, "vae": {"kind": "patch_pca"}}],
    "pretrain": [{
        "student": {
            "width": 32, "heads": 2, "encoder_depth": 1, "decoder_depth": 1, "text_depth": 1, "aligner_depth": 1,
            "head_width": 32, "head_depth": 1, "text_dim": 16, "grid": 4,
        },
        "batch_size": 4, "noise_copies": 1, "sample_captions": 2, "samples": {"iterations": 2, "head_steps": 2},
        "loop": {"steps": 2, "log_every": 1, "threads": 1},
    }],
}  # fmt: skip


def takes_checkpoints(recipe: Recipe) -> bool:
    """Whether it judges checkpoints that are in a store already."""
    judged = recipe.evaluate.models.values() if recipe.evaluate else ()
    return any(isinstance(one, GeneratorModel) and isinstance(one.generator, StudentGeneratorConfig) for one in judged)


def train_stand_in(context: Context) -> None:
    """Seals it as STAND_IN in the store of the rehearsal."""
    steps = steps_of(Recipe.model_validate(RECIPE))
    made = walk(steps, lambda step, refs: make(step, refs, replace(context, role="")))
    context.store.publish(made[steps[-1].name], STAND_IN.partition("@")[2])
