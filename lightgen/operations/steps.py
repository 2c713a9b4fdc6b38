"""The order of a recipe: every step with what it is made of.

Flows, `lightgen run`, `work` and `plan` all walk it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lightgen.config import Config
from lightgen.operations.step import Step
from lightgen.recipe import Audit, HeldOut, OrUse, Recipe, Scorers, Use
from lightgen.stages.align import AlignConfig
from lightgen.stages.encode_pairs import EncodePairsConfig
from lightgen.stages.evaluate import BEST_OF, FEATURES, REFERENCE, UNTRAINED, EvaluateConfig
from lightgen.stages.filter import FilterConfig
from lightgen.stages.fit_vae import FitVaeConfig
from lightgen.stages.generate import GenerateConfig
from lightgen.stages.join import JoinConfig
from lightgen.stages.mix import MixConfig
from lightgen.stages.pair import LINKS, PairConfig
from lightgen.stages.pictures import PicturesConfig
from lightgen.stages.score import ScoreConfig
from lightgen.stages.select import SelectConfig
from lightgen.storage.store import UNAUDITED

TEXTS_OF_PAIRS = "texts-pairs"


def steps_of(recipe: Recipe) -> list[Step]:
    """All steps of a recipe, in an order that can be run."""
    steps = [*_distill_set(recipe), *_students(recipe)]
    if recipe.pair is not None:
        photographs = recipe.pair.winner == LINKS
        steps += _photographs(recipe) if photographs else _captions(recipe.held_out, "held-out")
        steps += [*_at("pair", _pairs(recipe)), *_alignments(recipe)]
    if recipe.evaluate is not None:
        steps += [*_captions(recipe.test, "test"), *_at("evaluate", _evaluation(recipe))]
    return steps


def _at(key: str, steps: Iterable[Step]) -> Iterator[Step]:
    """The steps, whose settings stand at `key` of the recipe, where they name no place of their own in it."""
    return (step if step.key.startswith(f"{key}.") else replace(step, key=key) for step in steps)


def _distill_set(recipe: Recipe) -> Iterator[Step]:
    """Captions to features."""
    yield from _images(recipe)
    if recipe.filter is None:
        return
    images = images_step(recipe)
    yield from _filtered(images, recipe.score, recipe.filter, "train")
    captioned = "filter"
    if recipe.recaption is not None:
        captioned = "recaption"
        yield Step("recaption", "recaption", recipe.recaption, (images, "filter"), role="train", key="recaption")
    if recipe.encode:
        vae = FitVaeConfig(vae=recipe.encode[-1].vae)
        yield Step(
            "fit-vae", "fit_vae", vae, ("filter", images), role="train", key=f"encode.{len(recipe.encode) - 1}.vae"
        )
    if recipe.texts is not None:
        yield Step("texts", "texts", recipe.texts, (_captioned(recipe),), role="train", key="texts")
    for number, encode in enumerate(recipe.encode):
        size, parents = f"{encode.size_px}px", (captioned, images, "fit-vae")
        yield Step(f"encode-{size}", "encode", encode, parents, role=f"train-{size}", key=f"encode.{number}")


def images_step(recipe: Recipe) -> str:
    """Name of the step that makes the images to train on, all of them."""
    parts = _parts(recipe)
    return parts[0].name if len(parts) == 1 else "join"


def _captioned(recipe: Recipe) -> str:
    """The step whose rows are the captions that the student trains on, as far as the recipe says what they are."""
    if recipe.recaption is not None:
        return "recaption"
    drawn = isinstance(recipe.generate, GenerateConfig | MixConfig) and recipe.pictures is None
    return "select" if drawn and not isinstance(recipe.filter, Use) else "filter"


def _images(recipe: Recipe) -> Iterator[Step]:
    """Captions and who draws them, as far as the recipe goes, and pictures that exist; joined where there are more."""
    if recipe.source is not None:
        yield Step("source", "source", recipe.source, role="train", key="source")
    if recipe.select is not None:
        yield Step("select", "select", recipe.select, ("source",), role="train", key="select")
    parts = _parts(recipe)
    yield from parts
    if len(parts) > 1:
        yield Step("join", "join", JoinConfig(), tuple(part.name for part in parts), role="train", key="generate")


def _parts(recipe: Recipe) -> list[Step]:
    """What the images to train on are made of: one version of images, or several that are joined."""
    parts: list[Step] = []
    if recipe.pictures is not None:
        parts.append(Step("pictures", "pictures", _pictures(recipe.pictures, recipe.select), key="pictures"))
    if isinstance(recipe.generate, MixConfig):
        for name, drawing in recipe.generate.drawings.items():
            parts.append(Step(f"generate-{name}", "generate", drawing, ("select",), key=f"generate.mix.{name}"))
    elif recipe.generate is not None:
        parts.append(Step("generate", "generate", recipe.generate, ("select",), key="generate"))
    if len(parts) == 1:
        return [replace(parts[0], role="train")]
    return [replace(part, role=f"train-{part.name.removeprefix('generate-')}") for part in parts]


def _pictures(own: Config, select: Config | None) -> Config:
    """The pictures that exist; their captions are held against what `select` is, where they name nothing else."""
    if not isinstance(own, PicturesConfig) or own.evaluation is not None or not isinstance(select, SelectConfig):
        return own
    return own.model_copy(update={"evaluation": select.evaluation, "contamination": select.contamination})


def _filtered(
    images: str, scorers: Scorers, rules: OrUse[FilterConfig], role: str, of: str = "", part: str = ""
) -> Iterator[Step]:
    """Scores of images, and what rules over them keep; names of steps say `of` whom, keys in which `part`."""
    scores = {name: f"score{of}-{name}" for name in scorers}
    for name, scorer in scorers.items():
        settings, key = ScoreConfig(scorer=scorer), f"{part}score.{name}"
        yield Step(scores[name], "score", settings, (images,), role=f"{role}-{name}", key=key)
    inputs, labels = (images, *scores.values()), ("images", *scores)
    yield Step(f"filter{of}", "filter", rules, inputs, labels, role, f"{part}filter")


def _students(recipe: Recipe) -> Iterator[Step]:
    """One student a resolution, each starting from the one before; the last is called pretrained."""
    before: tuple[str, ...] = ()
    for number, (encode, pretrain) in enumerate(zip(recipe.encode, recipe.pretrain, strict=False), 1):
        size = f"{encode.size_px}px"
        role = "pretrained" if number == len(recipe.pretrain) else f"pretrained-{size}"
        parents = (f"encode-{size}", "texts", *before)
        yield Step(f"pretrain-{size}", "pretrain", pretrain, parents, role=role, key=f"pretrain.{number - 1}")
        before = (f"pretrain-{size}",)


def _captions(part: HeldOut | None, use: str) -> Iterator[Step]:
    assert part is not None, "the recipe has checked it"
    key = use.replace("-", "_")
    yield Step(f"source-{use}", "source", part.source, role=use, key=f"{key}.source")
    yield Step(f"select-{use}", "select", part.select, (f"source-{use}",), role=use, key=f"{key}.select")


def pretrained(recipe: Recipe) -> str:
    """Name of the step that trains the student."""
    return f"pretrain-{recipe.encode[-1].size_px}px"


def _photographs(recipe: Recipe) -> Iterator[Step]:
    """Links to pictures with captions of their own."""
    part = recipe.links
    assert part is not None, "the recipe has checked it"
    yield Step("links", "links", part.source, role=LINKS, key="links.source")
    yield Step("fetch", "fetch", part.fetch, ("links",), role=LINKS, key="links.fetch")
    yield from _filtered("fetch", part.score, part.filter, LINKS, "-links", "links.")
    yield Step(
        "recaption-links", "recaption", part.recaption, ("fetch", "filter-links"), role=LINKS, key="links.recaption"
    )  # fmt: skip


@dataclass(frozen=True)
class _Side:
    """One side of the pairs: the step that makes its images, and what scores of them are made of."""

    name: str
    images: str
    scored: tuple[str, ...]


def _pairs(recipe: Recipe) -> Iterator[Step]:
    """The student, and the teacher where it is to win, draw captions; a judge scores; rules pair; pairs are audited."""
    config = recipe.pair
    assert config is not None, "asked before"
    prompts = "recaption-links" if config.winner == LINKS else "select-held-out"
    sides = []
    for name, drawing in config.generators(recipe.generate).items():
        role, checkpoint = f"held-out-{name}", (pretrained(recipe),) if name == "student" else ()
        yield Step(f"generate-{role}", "generate", drawing, (prompts, *checkpoint), role=role)
        sides.append(_Side(role, f"generate-{role}", (f"generate-{role}",)))
    if config.winner == LINKS:
        sides.append(_Side("held-out-links", "fetch", ("fetch", "recaption-links")))
    for side in sides:
        yield Step(f"score-{side.name}", "score", ScoreConfig(scorer=config.judge), side.scored, role=side.name)
    images = tuple(side.images for side in sides)
    scores = tuple(f"score-{side.name}" for side in sides)
    yield Step(
        "pair", "pair", config, (*images, *scores), role=UNAUDITED if recipe.audit else "held-out"
    )  # fmt: skip
    if recipe.audit is not None:
        yield from _at("audit", _audit(recipe.audit, config, sides))
    assert recipe.texts is not None, "the recipe has checked it"
    after = ("audit",) if recipe.audit else ()
    yield Step(TEXTS_OF_PAIRS, "texts", recipe.texts, ("pair",), role="held-out", after=after)
    yield Step(
        "encode-pairs", "encode_pairs", EncodePairsConfig(), ("pair", pretrained(recipe), *images), role="held-out",
        after=after,
    )  # fmt: skip


def _audit(part: Audit, config: PairConfig, sides: Sequence[_Side]) -> Iterator[Step]:
    """What is asked about the pairs, and the decision over all of it."""
    images = tuple(side.images for side in sides)
    yield Step("probe", "probe", part.probe, ("pair", *images), role="probes")
    yield Step("score-probes", "score", ScoreConfig(scorer=config.judge), ("probe",), role="probes")
    asked = {"pairs": "pair", "probes": "score-probes", "probe_images": "probe"}
    asked |= {side.name: f"score-{side.name}" for side in sides}
    if part.second is not None:
        for side in sides:
            role = f"second-{side.name}"
            yield Step(f"score-{role}", "score", ScoreConfig(scorer=part.second), side.scored, role=role)
            asked[role] = f"score-{role}"
    if part.verdicts is not None:
        yield Step("verdicts", "verdicts", part.verdicts, ("pair",), role="human")
        asked["human"] = "verdicts"
    if part.compare is not None:
        yield Step("compare", "compare", part.compare, ("pair", *images), role="compared")
        asked["compare"] = "compare"
    yield Step("audit", "audit", part, tuple(asked.values()), tuple(asked), role="held-out")


def _alignments(recipe: Recipe) -> Iterator[Step]:
    """The controls first, so that what was published last is the aligned student."""
    for role, (key, config) in _aligned(recipe).items():
        yield from _at(key, _alignment(role, config, pretrained(recipe)))


def _aligned(recipe: Recipe) -> dict[str, tuple[str, AlignConfig]]:
    """What goes on from the student on the pairs: where the recipe has its settings, and these, by role."""
    found: dict[str, tuple[str, AlignConfig]] = {}
    if recipe.control is not None:
        found["sft"] = ("control", recipe.control)
    if recipe.align is not None and recipe.shuffled_control:
        found["shuffled"] = ("align", recipe.align.model_copy(update={"labels": "shuffled"}))
    if recipe.align is not None:
        found["dpo"] = ("align", recipe.align)
    return found


def _alignment(role: str, config: AlignConfig, start: str) -> Iterator[Step]:
    inputs = (start, "encode-pairs", TEXTS_OF_PAIRS)
    if config.reference is not None:
        yield Step(f"reference-{role}", "reference", config.reference, inputs, role=role)
        inputs = (*inputs, f"reference-{role}")
    if config.pair_weights == "margin":
        inputs = (*inputs, "pair")
    yield Step(f"align-{role}", "align", config, inputs, role=role)


def models(recipe: Recipe) -> dict[str, str]:
    """Step that trains each student of the report, by its name there; the first is what others are compared with."""
    if not recipe.pretrain:
        return {}
    *earlier, _ = recipe.encode
    aligned = {role: f"align-{role}" for role in reversed(_aligned(recipe))}
    stages = {f"{encode.size_px}px": f"pretrain-{encode.size_px}px" for encode in earlier}
    return {"pretrained": pretrained(recipe), **aligned, **stages}


def _evaluation(recipe: Recipe) -> Iterator[Step]:
    """Every model draws the test captions with the same seeds; a detector scores; the report is a decision."""
    config = recipe.evaluate
    assert config is not None, "asked before"
    drawn: dict[str, str] = {}  # step of the images of each model, by its name in the report
    for step in _judged(config, models(recipe)):
        name = step.role.removeprefix("test-")
        drawn[name] = step.name
        yield step
        yield Step(f"score-{step.role}", "score", ScoreConfig(scorer=config.detector), (step.name,), role=step.role)
    further = [*_features(config, drawn), *_best_of(config, drawn)]
    yield from further
    of_further = [(step.name, step.name) for step in further if step.stage == "score"]
    labelled = [*((name, f"score-test-{name}") for name in drawn), *of_further]
    labels, inputs = [label for label, _ in labelled], [step for _, step in labelled]
    yield Step("evaluate", "evaluate", config, ("select-test", *inputs), ("prompts", *labels), "test")


def _judged(config: EvaluateConfig, trained: Mapping[str, str]) -> Iterator[Step]:
    """The images of every model, `test-` and its name being the role."""
    first = next(iter(trained.values()), "")
    for name, drawing in config.generators(list(trained)).items():
        own = trained.get(name) or (first if name == UNTRAINED else "")
        role, key = f"test-{name}", f"evaluate.models.{name}" if name in config.models else ""
        yield Step(
            f"generate-{role}", "generate", drawing, ("select-test", *([own] if own else [])), role=role, key=key
        )
    for name, folder in config.folders.items():
        yield Step(f"adopt-test-{name}", "adopt", folder, role=f"test-{name}", key=f"evaluate.models.{name}")


def _features(config: EvaluateConfig, drawn: Mapping[str, str]) -> Iterator[Step]:
    """Every model's pictures, and the reference's, as vectors."""
    if config.features is None:
        return
    reference = {} if config.reference in drawn else {REFERENCE: "images-reference"}
    if reference:
        yield Step("images-reference", "generate", Use(use=config.reference))
    for name, images in {**drawn, **reference}.items():
        yield Step(
            f"{FEATURES}{name}", "score", ScoreConfig(scorer=config.features), (images,), role=f"features-{name}"
        )


def _best_of(config: EvaluateConfig, drawn: Mapping[str, str]) -> Iterator[Step]:
    """Every model's pictures by the score that the best of them is told by."""
    if config.best_of is None:
        return
    how = ScoreConfig(scorer=config.best_of.scorer)
    for name, images in drawn.items():
        step = f"{BEST_OF}{name}"
        yield Step(step, "score", how, (images,), role=step, key="evaluate.best_of")
