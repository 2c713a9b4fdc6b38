"""What the steps of a recipe will take: rows, operations, bytes and memory, by formula.

Operations are those of matrix products and attention (`lightgen.model.flops`, and `flops` of each member). Nothing here
was measured; what a store has measured replaces it (`lightgen.operations.measured`).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from lightgen.captioners.base import CaptionerMember
from lightgen.config import Config
from lightgen.encoders.t5 import T5Config
from lightgen.generators.base import GeneratorMember
from lightgen.generators.student import StudentGeneratorConfig
from lightgen.model.config import StudentConfig
from lightgen.operations.step import Step
from lightgen.operations.training_cost import ADAM_BYTES, SEALED_BYTES, StudentAtSize
from lightgen.recipe import Recipe
from lightgen.scorers.base import ScorerMember
from lightgen.stages.align import AlignConfig
from lightgen.stages.compare import CompareConfig
from lightgen.stages.encode import EncodeConfig
from lightgen.stages.evaluate import BEST_OF, FEATURES, EvaluateConfig
from lightgen.stages.generate import GenerateConfig
from lightgen.stages.join import JoinConfig
from lightgen.stages.links import LinksConfig
from lightgen.stages.pretrain import PretrainConfig
from lightgen.stages.recaption import RecaptionConfig
from lightgen.stages.reference import ReferenceConfig
from lightgen.stages.score import ScoreConfig
from lightgen.stages.select import SelectConfig
from lightgen.stages.texts import TextsConfig
from lightgen.storage.quantised import std_bytes
from lightgen.storage.quantised import text_bytes as token_bytes
from lightgen.vlm.base import VlmMember

WORDS = 39  # tokens of a caption on average
SIEVES = ("source", "pictures", "links", "fetch", "filter", "recaption", "pair", "probe")  # stages that refuse rows
FILE_BYTES = {"webp": 70e3, "jpg": 70e3, "png": 379e3}  # of an image of 512 x 512 px


@dataclass(frozen=True)
class Rows:
    """How many rows; `most` says that there may be fewer."""

    count: float
    most: bool = False

    def times(self, factor: float) -> "Rows":
        """So many for each."""
        return Rows(self.count * factor, self.most)


@dataclass(frozen=True)
class Forecast:
    """Formulas over the settings of one recipe; `sides` are height and width that each step draws or sees, in px."""

    recipe: Recipe

    def units(self, step: Step, rows: Mapping[str, Rows | None]) -> Rows | None:
        """What a step works on, in the unit of its progress; `rows` are those that the steps before give."""
        config = step.config
        if isinstance(config, PretrainConfig | AlignConfig):
            return Rows(config.loop.steps * config.batch_size)
        if isinstance(config, LinksConfig):
            limits = [corpus.limit for corpus in config.corpora]
            return None if None in limits else Rows(sum(limit or 0 for limit in limits), most=True)
        if isinstance(config, JoinConfig):
            return _sum(rows.get(name) for name in step.inputs)
        given = rows.get(step.inputs[1 if isinstance(config, ReferenceConfig) else 0]) if step.inputs else None
        if given is None:
            return None
        if isinstance(config, GenerateConfig):
            weights, share = config.samples_by_source.values(), config.part.share if config.part else 1.0
            samples = max([config.samples_per_prompt, *weights])
            return Rows(round(given.count * share) * samples, given.most or bool(weights))
        if isinstance(config, ReferenceConfig):
            return given.times(config.draws)
        if isinstance(config, EvaluateConfig):
            judged = sum(not label.startswith((FEATURES, BEST_OF)) for label in step.labels[1:])
            return given.times(config.samples_per_prompt * judged)
        return given

    def rows(self, step: Step, units: Rows | None) -> Rows | None:
        """What a step gives, where it works on `units`."""
        if isinstance(step.config, SelectConfig):
            least = min(step.config.count or math.inf, units.count if units else math.inf)
            return None if least == math.inf else Rows(least, most=True)
        if units is None or step.stage in ("fit_vae", "pretrain", "align"):
            return None
        return Rows(units.count, units.most or step.stage in SIEVES)

    def flops(self, step: Step) -> float | None:
        """Operations of one unit; None where there is no formula, as for work of a processor."""
        config, last = step.config, self.recipe.encode[-1] if self.recipe.encode else None
        if isinstance(config, GenerateConfig) and isinstance(config.generator, StudentGeneratorConfig):
            student = self.student_of(step)
            return student.drawing_flops(config.generator.sample) if student else None
        if isinstance(config, GenerateConfig):
            return config.generator.flops(*(config.sides or (0, 0)))
        if isinstance(config, ScoreConfig):
            return config.scorer.flops(*self._seen(step))
        if isinstance(config, RecaptionConfig):
            return config.captioner.flops(*self._seen(step))
        if isinstance(config, TextsConfig):
            return config.encoder.flops(WORDS)
        if isinstance(config, EncodeConfig):
            return config.vae.flops(config.size_px)
        if step.stage == "encode_pairs" and last is not None:
            return 2 * last.vae.flops(last.size_px)
        if isinstance(config, PretrainConfig | AlignConfig | ReferenceConfig):
            student = self.student_of(step)
            return student.training_flops(config) if student else None
        return None

    def bytes(self, step: Step, rows: Rows | None) -> float | None:
        """Of what a step leaves; None where it is little, or not known."""
        config = step.config
        if isinstance(config, PretrainConfig | AlignConfig):
            student = self.student_of(step)
            return (SEALED_BYTES + ADAM_BYTES) * student.parameters if student else None
        if rows is None:
            return None
        if isinstance(config, GenerateConfig):
            return rows.count * FILE_BYTES[config.format] * math.prod(self._sides(config)) / 512**2
        if isinstance(config, TextsConfig):
            return rows.count * text_bytes(config)
        if isinstance(config, EncodeConfig):
            return rows.count * latent_bytes(config) * (1 if config.flips == "off" else 2)
        if step.stage != "encode_pairs":
            return None
        plain = self.recipe.encode[-1].model_copy(update={"std_bits": 16})  # pairs are few: stored in full
        return rows.count * 2 * latent_bytes(plain)

    def usd_per_unit(self, step: Step) -> float:
        """What a service asks for one unit; 0 for work of one's own machines."""
        config = step.config
        return config.generator.usd_per_image if isinstance(config, GenerateConfig) else 0.0

    def memory(self, step: Step) -> float:
        """Bytes that each device must hold: weights, and what training keeps beside them."""
        config = step.config
        if isinstance(config, PretrainConfig | AlignConfig | ReferenceConfig):
            student = self.student_of(step)
            return student.training_memory(config) if student else 0.0
        if (member := _member(config)) is not None:
            return member.weight_bytes
        return config.encoder.weight_bytes if isinstance(config, TextsConfig) else 0.0

    def wants_gpu(self, step: Step) -> bool:
        """Whether a step takes a GPU where there is one."""
        config = step.config
        if (member := _member(config)) is not None:
            return member.wants_gpu
        if isinstance(config, EncodeConfig):
            return config.vae.wants_gpu
        if isinstance(config, TextsConfig):
            return config.encoder.wants_gpu
        return step.stage in ("pretrain", "encode_pairs", "reference", "align")

    def student_of(self, step: Step) -> StudentAtSize | None:
        """The student of a step, on the images that it sees or draws; None where the recipe does not say its sizes."""
        if self._student is None or not self.recipe.encode:
            return None
        encode = next((one for one in self.recipe.encode if f"{one.size_px}px" in step.name), self.recipe.encode[-1])
        if encode.vae.shape is None:
            return None
        side = encode.size_px // (encode.vae.shape[1] * self._student.patch)
        text = self.recipe.texts.encoder if self.recipe.texts else None
        words = text.max_tokens if isinstance(text, T5Config) else WORDS
        return StudentAtSize(self._student, side * side, words)

    @cached_property
    def _student(self) -> StudentConfig | None:
        first = self.recipe.pretrain[0] if self.recipe.pretrain else None
        return first.known_sizes if isinstance(first, PretrainConfig) else None

    def _sides(self, config: GenerateConfig) -> tuple[int, int]:
        """Height and width of what a generator draws; a student draws at the size of its last training."""
        if config.sides is not None:
            return config.sides
        last = self.recipe.encode[-1].size_px if self.recipe.encode else 0
        return last, last

    def _seen(self, step: Step) -> tuple[int, int]:
        """Height and width of the images that a scorer looks at."""
        drawing = self._drawings.get(step.inputs[0])
        return self._sides(drawing) if drawing is not None else (0, 0)

    @cached_property
    def _drawings(self) -> dict[str, GenerateConfig]:
        from lightgen.operations.steps import steps_of

        return {step.name: step.config for step in steps_of(self.recipe) if isinstance(step.config, GenerateConfig)}


def _sum(parts: Iterable[Rows | None]) -> Rows | None:
    """All rows together; not known where one part is not."""
    given = list(parts)
    known = [part for part in given if part is not None]
    return Rows(sum(part.count for part in known), any(part.most for part in known)) if known == given else None


def _member(config: Config) -> GeneratorMember | ScorerMember | CaptionerMember | VlmMember | None:
    """Who draws, looks or writes in a step, where somebody does."""
    match config:
        case GenerateConfig():
            return config.generator
        case ScoreConfig():
            return config.scorer
        case RecaptionConfig():
            return config.captioner
        case CompareConfig():
            return config.model
        case _:
            return None


def latent_bytes(config: EncodeConfig) -> float:
    """The latent of an image: the mean of each number in 2 bytes, its spread in 2 or 1."""
    channels, reduction = config.vae.shape or (0, 1)
    side = config.size_px // reduction
    return 2 * channels * side**2 + (
        std_bytes((channels, side, side)) if config.std_bits == 8 else 2 * channels * side**2
    )


def text_bytes(config: TextsConfig) -> float:
    """The words of a text."""
    text = config.encoder
    kept = text.max_tokens if isinstance(text, T5Config) and text.padded else WORDS
    width = text.width or 0
    return kept * (token_bytes(width) if config.codec == "int8" and width else 2 * width)
