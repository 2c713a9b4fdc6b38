"""A recipe in small: counts cut to tens, sizes in the same ratios, and all else as it is written."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lightgen.config import Config
from lightgen.errors import ConfigError
from lightgen.evaluation.geneval import Metadata, scene_meaning
from lightgen.evaluation.geneval_folder import write_folder
from lightgen.fetch.loopback import picture
from lightgen.generators.student import StudentGeneratorConfig
from lightgen.model.config import StudentConfig
from lightgen.recipe import Audit, HeldOut, Links, Recipe, Use
from lightgen.stages.align import AlignConfig
from lightgen.stages.encode import EncodeConfig
from lightgen.stages.evaluate import EvaluateConfig
from lightgen.stages.fetch import FetchConfig
from lightgen.stages.generate import GenerateConfig
from lightgen.stages.links import LinksConfig
from lightgen.stages.mix import MixConfig, drawings
from lightgen.stages.models import FolderModel, GeneratorModel, Model
from lightgen.stages.pair import PairConfig
from lightgen.stages.pictures import PicturesConfig
from lightgen.stages.pretrain import PretrainConfig
from lightgen.stages.select import SelectConfig
from lightgen.stages.source import SourceConfig
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig

SOME, FEW = 20, 2  # rows of a shard, prompts; samples, draws
BATCH = 8  # images at a time
STEPS, CHECKPOINT = 3, 2  # of training; a checkpoint is written on the way
WIDTH, HEADS = 32, 2  # of the student
TOKENS = range(2, 17)  # tokens a side that the smallest resolution may have
SHAPES = ("encoder_depth", "decoder_depth", "text_depth", "aligner_depth", "head_depth")
STAND_IN = "checkpoint@stand-in"  # in place of checkpoints that a recipe takes from the store
ANY = {"max_reject_fraction": 1.0}
Part = TypeVar("Part", bound=Config)
Drawn = TypeVar("Drawn", bound=GenerateConfig)


@dataclass(frozen=True)
class Scale:
    """What sizes and processes become."""

    factor: float
    token_px: int
    processes: int | None
    compiles: bool

    def side(self, px: int, multiple: int = 1) -> int:
        """A side of `px` in small: a whole number of tokens, and a multiple of what the generator draws."""
        unit = math.lcm(self.token_px, multiple)
        return max(1, round(px * self.factor / unit)) * unit


def small_recipe(recipe: Recipe, folder: Path, processes: int | None, compiles: bool) -> Recipe:
    """`recipe` in small, its models and files in `folder`.

    `processes` replaces that of every launch of several; without `compiles` no block is compiled. Raises ConfigError
    for a recipe that takes versions as they are: an empty store has none.
    """
    taken = [name for name in Recipe.model_fields if _uses(getattr(recipe, name))]
    if taken:
        raise ConfigError(f"{', '.join(taken)} takes a version as it is (`use:`); a rehearsal makes all: give settings")
    model, scale = recipe.rehearse(folder), _scale(recipe, processes, compiles)
    parts: dict[str, Any] = {
        "source": None if model.source is None else _source(model.source),
        "pictures": _pictures(model.pictures, scale),
        "select": _select(model.select),
        "generate": _generate(model.generate, scale),
        "filter": _changed(model.filter, **ANY),
        "recaption": _changed(model.recaption, **ANY),
        "texts": _changed(model.texts, **ANY),
        "encode": [_encode(one, scale) for one in model.encode],
        "pretrain": [_pretrain(one, scale) for one in model.pretrain],
        "held_out": _captions(model.held_out),
        "links": _links(model.links, scale),
        "pair": _pair(model.pair, model.generate),
        "audit": _audit(model.audit),
        "align": _align(model.align, scale),
        "control": _align(model.control, scale),
        "test": _captions(model.test),
        "evaluate": _evaluate(model, scale, folder),
    }
    return model.model_copy(update=parts)


def left_out(before: Config, after: Config) -> Iterator[str]:
    """In words, what a rehearsal of a step leaves out that its recipe asks for."""
    if isinstance(before, PretrainConfig | AlignConfig) and isinstance(after, PretrainConfig | AlignConfig):
        if before.launch.compile and not after.launch.compile:
            yield "blocks are not compiled: on a processor that takes minutes"
        if before.launch.nodes > 1:
            yield f"one machine in place of {before.launch.nodes}"
    if isinstance(before, GenerateConfig) and isinstance(after, GenerateConfig):
        named = getattr(before.generator, "checkpoint", STAND_IN)
        if getattr(after.generator, "checkpoint", named) != named:
            yield f"a student of two steps in place of {named}"
    if isinstance(before, PairConfig) and isinstance(after, PairConfig) and before.winner != after.winner:
        yield f"the teacher is to win: an untrained student draws nothing that {after.judge.kind} knows"


def _uses(part: Any) -> bool:
    if isinstance(part, HeldOut | Links):
        return any(_uses(getattr(part, name)) for name in type(part).model_fields)
    return any(map(_uses, part)) if isinstance(part, list) else isinstance(part, Use)


def _changed(part: Part | None, **settings: Any) -> Part | None:
    return None if part is None else part.model_copy(update=settings)


def _scale(recipe: Recipe, processes: int | None, compiles: bool) -> Scale:
    """As small as keeps the resolutions apart: the smallest has at least two tokens a side."""
    student = next((one.known_sizes for one in recipe.pretrain if isinstance(one, PretrainConfig)), None)
    sizes = sorted({one.size_px for one in recipe.encode}) or [_drawn_px(recipe)]
    reduction = (recipe.encode[0].vae.shape or (0, 8))[1] if recipe.encode else 8
    token_px = reduction * (student.patch if student else 2)
    for tokens in TOKENS:
        scale = Scale(tokens * token_px / sizes[0], token_px, processes, compiles)
        if len({scale.side(size) for size in sizes}) == len(sizes):
            return scale
    raise ConfigError(f"encode: sizes {sizes} are too near to one another to be rehearsed in small")


def _drawn_px(recipe: Recipe) -> int:
    sides = [side for drawing in drawings(recipe.generate) for side in drawing.sides or ()]
    judged = recipe.evaluate.models.values() if recipe.evaluate and recipe.only_judges else ()
    sides += [one.size_px for one in judged if isinstance(one, GeneratorModel) and one.size_px]
    return min(sides, default=64)


def _source(part: SourceConfig | Use) -> SourceConfig | Use:
    return part.model_copy(update={"shard_rows": min(getattr(part, "shard_rows", 1), SOME), "max_reject_fraction": 1.0})


def _pictures(part: PicturesConfig | Use | None, scale: Scale) -> PicturesConfig | Use | None:
    if not isinstance(part, PicturesConfig):
        return part
    crop = None if part.crop_px is None else scale.side(part.crop_px)
    return part.model_copy(update={"shard_rows": min(part.shard_rows, SOME), "crop_px": crop, **ANY})


def _select(part: SelectConfig | Use | None) -> SelectConfig | Use | None:
    return _changed(part, count=SOME) if isinstance(part, SelectConfig) and part.count else part


def _links(part: Links | None, scale: Scale) -> Links | None:
    if part is None:
        return None
    assert isinstance(part.source, LinksConfig), "without `use:`, see above"
    assert isinstance(part.fetch, FetchConfig), "without `use:`, see above"
    crop = None if part.fetch.crop_px is None else scale.side(part.fetch.crop_px)
    return part.model_copy(
        update={
            "source": part.source.model_copy(update={"shard_rows": min(part.source.shard_rows, SOME), **ANY}),
            "fetch": part.fetch.model_copy(update={"crop_px": crop, **ANY}),
            "filter": _changed(part.filter, **ANY),
            "recaption": _changed(part.recaption, **ANY),
        }
    )


def _audit(part: Audit | None) -> Audit | None:
    """Without bounds: tiny models know nothing, and what they fall short of is no fault of the recipe."""
    return None if part is None else part.model_copy(update=dict.fromkeys(part.BOUNDS))


def _captions(part: HeldOut | None) -> HeldOut | None:
    return _changed(part, source=_source(part.source), select=_select(part.select)) if part else None


def _generate(part: GenerateConfig | MixConfig | Use | None, scale: Scale) -> GenerateConfig | MixConfig | None:
    if isinstance(part, MixConfig):
        # Equal shares, so that each draws some of a few prompts.
        members = {name: _changed(_drawing(member, scale), share=1.0) for name, member in part.mix.items()}
        return part.model_copy(update={"mix": members})
    return _drawing(part, scale) if isinstance(part, GenerateConfig) else None


def _drawing(part: Drawn, scale: Scale) -> Drawn:
    unit = part.generator.multiple_px
    sides = {name: getattr(part, name) for name in ("size_px", "height_px", "width_px")}
    return part.model_copy(
        update={
            **{name: scale.side(px, unit) for name, px in sides.items() if px is not None},
            "samples_per_prompt": min(part.samples_per_prompt, FEW),
            "samples_by_source": {name: min(count, FEW) for name, count in part.samples_by_source.items()},
            "batch": min(part.batch, BATCH),
            "max_reject_fraction": 1.0,
        }
    )


def _encode(part: EncodeConfig, scale: Scale) -> EncodeConfig:
    size = scale.side(part.size_px)
    return part.model_copy(update={"size_px": size, "batch": min(part.batch, BATCH), "max_reject_fraction": 1.0})


def _pretrain(part: PretrainConfig | Use, scale: Scale) -> PretrainConfig | Use:
    if not isinstance(part, PretrainConfig):
        return part
    launch = _launch(part.launch, scale)
    microbatches = launch.size * launch.accumulate
    return part.model_copy(
        update={
            "student": _student(part.sizes(), scale),
            "grid": None if part.grid is None else _tokens(part.grid, scale),
            "mask_ratios": math.gcd(part.mask_ratios, microbatches),
            **_trained(part.loop, launch),
        }
    )


def _align(part: AlignConfig | None, scale: Scale) -> AlignConfig | None:
    if part is None:
        return None
    draws = None if part.reference_draws is None else min(part.reference_draws, FEW)
    launch = _launch(part.launch, scale)
    ratios = math.gcd(part.mask_ratios, launch.size * launch.accumulate)
    return part.model_copy(update={"reference_draws": draws, "mask_ratios": ratios, **_trained(part.loop, launch)})


def _trained(loop: LoopConfig, launch: LaunchConfig) -> dict[str, Any]:
    """What both stages that train change."""
    optimizer = loop.optimizer.model_copy(update={"warmup_steps": min(loop.optimizer.warmup_steps, 1)})
    short = {
        "steps": min(loop.steps, STEPS), "log_every": 1, "checkpoint_every": CHECKPOINT, "threads": 1,
        "sample_every": min(loop.sample_every, CHECKPOINT), "optimizer": optimizer,
    }  # fmt: skip
    batch = FEW * launch.size * launch.accumulate
    return {"loop": loop.model_copy(update=short), "launch": launch, "batch_size": batch, "sample_captions": FEW}


def _launch(launch: LaunchConfig, scale: Scale) -> LaunchConfig:
    """On one machine; processes stay, unless others are asked for."""
    processes = scale.processes if scale.processes and launch.processes > 1 else launch.processes
    alone = {"processes": processes, "nodes": 1, "rendezvous": None, "compile": launch.compile and scale.compiles}
    return launch.model_copy(update=alone)


def _student(sizes: StudentConfig, scale: Scale) -> StudentConfig:
    """Narrow and flat, with the same parts, flags and encoders."""
    flat = {name: min(getattr(sizes, name), 1) for name in SHAPES}
    narrow = {"width": WIDTH, "heads": HEADS, "head_width": WIDTH, "grid": _tokens(sizes.grid, scale)}
    return sizes.model_copy(update={**flat, **narrow})


def _tokens(side: int, scale: Scale) -> int:
    return max(1, round(side * scale.factor))


def _pair(part: PairConfig | None, teacher: GenerateConfig | MixConfig | Use | None) -> PairConfig | None:
    if part is None:
        return None
    # An untrained student draws nothing that a detector knows, so none of its samples could win.
    detected = part.winner == "student" and part.judge.kind in ("scenes", "mask2former")
    winner = "teacher" if detected and isinstance(teacher, GenerateConfig) else part.winner
    samples = min(part.samples_per_prompt, FEW)
    few = {"winner": winner, "samples_per_prompt": samples, "batch_size": min(part.batch_size, BATCH)}
    return part.model_copy(update={**few, "max_reject_fraction": 1.0})


def _evaluate(model: Recipe, scale: Scale, folder: Path) -> EvaluateConfig | None:
    part = model.evaluate
    if part is None:
        return None
    few = {
        "samples_per_prompt": min(part.samples_per_prompt, FEW),
        "resamples": 100, "batch_size": min(part.batch_size, BATCH), "max_reject_fraction": 1.0,
    }  # fmt: skip
    meanings = _meanings(model)
    if part.metadata is not None:
        path = folder / "evaluation_metadata.jsonl"
        path.write_text("".join(f"{one.model_dump_json(by_alias=True)}\n" for one in meanings), encoding="utf-8")
        few["metadata"] = str(path)
    few["models"] = {name: _judged(name, one, meanings, scale, folder) for name, one in part.models.items()}
    return part.model_copy(update=few)


def _judged(name: str, part: Model, meanings: Sequence[Metadata], scale: Scale, folder: Path) -> Model:
    """A model in small: a student is one that the rehearsal trains, a folder holds pictures of the test captions."""
    if isinstance(part, GeneratorModel):
        side = None if part.size_px is None else scale.side(part.size_px, part.generator.multiple_px)
        of_store = isinstance(part.generator, StudentGeneratorConfig)
        generator = part.generator.model_copy(update={"checkpoint": STAND_IN}) if of_store else part.generator
        return part.model_copy(
            update={"generator": generator, "size_px": side, "batch": min(part.batch or BATCH, BATCH)}
        )
    if isinstance(part, FolderModel):
        place = folder / f"folder-{name}"
        for _ in write_folder(place, ((one, {0: picture(0, "png", 64, one.prompt)}) for one in meanings)):
            pass
        return part.model_copy(update={"path": str(place)})
    return part


def _meanings(model: Recipe) -> list[Metadata]:
    """What the scene captions among the test captions mean, in GenEval's form."""
    corpora = model.test.source.corpora if model.test and isinstance(model.test.source, SourceConfig) else []
    texts = [row.text.decode("utf-8", "replace") for corpus in corpora for row in corpus.read() if row.text]
    known = {text: meaning for text in dict.fromkeys(texts) if (meaning := scene_meaning(text))}
    return [meaning.model_copy(update={"prompt": text}) for text, meaning in known.items()]
