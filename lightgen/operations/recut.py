"""Other thresholds over the scores that are there: the decision is made again, and nothing else."""

from dataclasses import dataclass

import pyarrow as pa

from lightgen.decisions.filtering import decide
from lightgen.decisions.rules import Yield
from lightgen.errors import ConfigError
from lightgen.operations.run import find_recipe_versions
from lightgen.operations.steps import images_step
from lightgen.recipe import Recipe
from lightgen.stages.filter import FilterConfig, filter_images, score_columns
from lightgen.storage.store import Store
from lightgen.work import Context
from schemas.ref import ArtifactRef


@dataclass(frozen=True)
class Cut:
    """Images before and after each step of two decisions over the same scores."""

    before: tuple[Yield, ...]
    after: tuple[Yield, ...]
    images: ArtifactRef
    scores: dict[str, ArtifactRef]


def recut(recipe: Recipe, other: Recipe, store: Store) -> Cut:
    """Yields of the filter of `recipe` and of `other`, which must differ in nothing else that images depend on.

    No image is opened. Raises NotMade where the images or scores are not made yet.
    """
    old, new = _filter_of(recipe), _filter_of(other)
    names = {name: f"score-{name}" for name in other.score}
    made = find_recipe_versions(other, store, list(names.values()))
    images, scores = made[images_step(other)], {name: made[step] for name, step in names.items()}
    version = store.open(images)
    opened = {name: store.open(ref) for name, ref in scores.items()}

    def decided(config: FilterConfig) -> tuple[Yield, ...]:
        shards = range(version.n_shards)
        columns = pa.concat_tables([score_columns(version, opened, shard, config.derive) for shard in shards])
        return decide(columns, config.rules, config.repeats, config.best).yields

    cuts = [decided(config) for config in (old, new)]
    return Cut(cuts[0], cuts[1], images, scores)


def seal(cut: Cut, recipe: Recipe, store: Store) -> ArtifactRef:
    """The KEPT version of `recipe` over the images of a cut."""
    context = Context(store, recipe.seed, recipe.run, role="train")
    return filter_images(cut.images, cut.scores, _filter_of(recipe), context)


def _filter_of(recipe: Recipe) -> FilterConfig:
    if not isinstance(recipe.filter, FilterConfig):
        raise ConfigError(f"recipe {recipe.name} has no filter with rules of its own: there is nothing to cut again")
    return recipe.filter
