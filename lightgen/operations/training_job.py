"""The training run of a recipe that comes next, as a value: for a launcher other than the stage itself, such as Ray."""

from typing import TYPE_CHECKING

from lightgen.errors import ConfigError, NotMade
from lightgen.operations.stages import make
from lightgen.operations.step import Step, inputs
from lightgen.operations.steps import steps_of
from lightgen.recipe import Recipe
from lightgen.settings import pick_device
from lightgen.storage.store import Store
from lightgen.work import Context, Needs, Work
from schemas.ref import ArtifactRef

if TYPE_CHECKING:
    from lightgen.training.job import TrainingJob

TRAINING = ("pretrain", "align")


def next_job(recipe: Recipe, store: Store) -> "TrainingJob":
    """The first training run that is not sealed, whose parents are. Makes nothing.

    Raises NotMade where a step before it is missing, ConfigError where nothing is left to train.
    """
    made: dict[str, ArtifactRef] = {}
    for step in steps_of(recipe):
        context = Context(store, recipe.seed, recipe.run, role=step.role, find_only=True)
        parents = [made[name] for name in inputs(step)]
        try:
            made[step.name] = make(step, parents, context)
        except NotMade as error:
            if step.stage not in TRAINING:
                raise
            return _job(step, parents, error, context)
    raise ConfigError(f"recipe {recipe.name}: nothing is left to train in {store.uri}")


def _job(step: Step, parents: list[ArtifactRef], missing: NotMade, context: Context) -> "TrainingJob":
    from lightgen.training.job import job_of

    work = Work.of(missing.plan, step.config, parents, context, f"lightgen.stages.{step.stage}:open", Needs(sort="job"))
    return job_of(work, context.store, pick_device(context.run.device))
