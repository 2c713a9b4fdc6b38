"""The whole recipe in small, in a store that is thrown away: what can be tried is tried before it is paid for."""

import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from lightgen.config import Config
from lightgen.decisions.columns import numbers
from lightgen.decisions.derive import derive, with_derived
from lightgen.decisions.rules import KEPT, Rule, apply_rules
from lightgen.engines.engine import open_engine
from lightgen.operations.small import left_out, small_recipe
from lightgen.operations.stages import make
from lightgen.operations.stand_in import takes_checkpoints, train_stand_in
from lightgen.operations.step import Step, inputs, until
from lightgen.operations.steps import steps_of
from lightgen.recipe import Recipe
from lightgen.settings import pick_device
from lightgen.stages.filter import FilterConfig, score_columns
from lightgen.stages.pair import JUDGED, PairConfig
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context
from schemas.ref import ArtifactRef

SHARES = (0.5, 0.4, 0.3, 0.2, 0.1, 0.05)  # of the values of a column that a bound may leave out
LEAST_GAP = 1e-6


@dataclass(frozen=True)
class Rehearsed:
    """A step that went through: how long it took, what it gave, and what a run would not have let pass."""

    name: str
    seconds: float
    rows: int
    rejected: int
    note: str = ""


def rehearse(
    recipe: Recipe, store: str, goals: Sequence[str] = (), processes: int | None = None, keep: bool = False
) -> Iterator[Rehearsed]:
    """Make every step that `goals` need (without goals: all) in small; yields each as it is done.

    The store is of the same kind as `store`, beside it, and gone afterwards, unless `keep`. `processes` replaces those
    of every launch of several. Raises what a step raises.
    """
    compiles = pick_device(recipe.run.device) != "cpu"
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder, _one_thread(), _throw_away(store, keep) as place:
        small = small_recipe(recipe, Path(folder), processes, compiles)
        written = {(step.key, step.stage): step.config for step in steps_of(recipe)}
        with open_engine(small.run) as engine:
            context = Context(place, small.seed, small.run, engine=engine)
            if takes_checkpoints(small):
                train_stand_in(context)
            made: dict[str, ArtifactRef] = {}
            for step in until(steps_of(small), goals):
                began, refs = time.monotonic(), [made[name] for name in inputs(step)]
                ready = _with_gap(_with_bounds(step, refs, place), refs, context)
                made[step.name] = make(ready, refs, replace(context, role=step.role))
                rejected = sum(place.open(made[step.name]).reject_reasons.values())
                before = written.get((step.key, step.stage), step.config)
                notes = [*_notes(before, step, ready), *_refusal(before, made[step.name].rows, rejected)]
                seconds = time.monotonic() - began
                yield Rehearsed(step.name, seconds, made[step.name].rows, rejected, "; ".join(notes))


def _notes(written: Config, step: Step, ready: Step) -> list[str]:
    """What a rehearsal did otherwise than a run of the recipe would."""
    return [*left_out(written, step.config), *(["bounds at what was observed"] if ready is not step else [])]


def _refusal(written: Config, rows: int, rejected: int) -> list[str]:
    """Whether a run would have ended for its rejects."""
    limit = getattr(written, "max_reject_fraction", 1.0)
    many = rejected > limit * (rejected + rows)
    return [f"a run would refuse so many rejects: max_reject_fraction is {limit:g}"] if many else []


def _with_bounds(step: Step, refs: Sequence[ArtifactRef], store: Store) -> Step:
    """The step with rules that about half of what was scored passes: tiny models know nothing of good and bad."""
    config = step.config
    if isinstance(config, FilterConfig) and config.rules:
        images, scores = store.open(refs[0]), [store.open(ref) for ref in refs[1:]]
        named = dict(zip(step.labels[1:], scores, strict=True))
        table = pa.concat_tables(
            [score_columns(images, named, shard, config.derive) for shard in range(images.n_shards)]
        )
        return replace(step, config=config.model_copy(update={"rules": halving(config.rules, table)}))
    if isinstance(config, PairConfig) and isinstance(config.how, JUDGED) and config.rules:
        raw = pa.concat_tables([store.open(ref).table() for ref in refs[len(refs) // 2 :]])
        table = with_derived(raw, derive(raw, config.how))
        return replace(step, config=config.model_copy(update={"passes": halving(config.rules, table)}))
    return step


def _with_gap(step: Step, refs: Sequence[ArtifactRef], context: Context) -> Step:
    """The step with a gap that about half of the leads keep: tiny models lead by little."""
    config = step.config
    if not isinstance(config, PairConfig) or config.gap is None:
        return step
    tried = make(replace(step, config=config.model_copy(update={"gap": LEAST_GAP, "caps": ()})), list(refs), context)
    margins = context.store.open(tried).table(columns=["margin"])["margin"].to_numpy()
    gap = float(np.median(margins)) if len(margins) else LEAST_GAP
    return replace(step, config=config.model_copy(update={"gap": gap}))


def halving(rules: Sequence[Rule], table: pa.Table) -> tuple[Rule, ...]:
    """The rules with bounds from the values of their columns, such that about half of the rows pass all of them."""
    tried = [tuple(_bounded(rule, table, share) for rule in rules) for share in SHARES]
    passed = [float((apply_rules(table, one).rule == KEPT).mean()) for one in tried]
    return min(zip(tried, passed, strict=True), key=lambda pair: abs(pair[1] - 0.5))[0]


def _bounded(rule: Rule, table: pa.Table, share: float) -> Rule:
    values = numbers(table, rule.column).drop_null().to_numpy(zero_copy_only=False)
    if not len(values):
        return rule
    ends = {"least": share, "most": 1 - share}
    given = {name: float(np.quantile(values, at)) for name, at in ends.items() if getattr(rule, name) is not None}
    return rule.model_copy(update=given)


@contextmanager
def _throw_away(store: str, keep: bool) -> Iterator[Store]:
    """An empty store of the same kind beside `store`."""
    name = f"rehearsal-{uuid.uuid4().hex[:8]}"
    if "://" in store.removeprefix("file://"):
        place = f"{store.rstrip('/')}-{name}"
    else:
        wanted = Path(store.removeprefix("file://")).expanduser().absolute()
        place = str(next(path for path in wanted.parents if path.is_dir()) / name)
    opened = open_or_create(place)
    try:
        yield opened
    finally:
        if not keep:
            opened.files.clear()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Tiny products are slower on several threads, and far slower where others work too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
