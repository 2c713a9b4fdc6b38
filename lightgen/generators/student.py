"""Generators `student` and `untrained`: the student of a checkpoint with its VAE and text encoder, trained or fresh."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from lightgen.config import RUN
from lightgen.errors import ConfigError
from lightgen.generators.base import Drawn, GeneratorMember
from lightgen.generators.restore import Weights
from lightgen.generators.sampler import Sampler
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.seeds import derive_seed
from lightgen.work import Work, Worker


class StudentGeneratorConfig(GeneratorMember):
    """Which weights of a checkpoint draw, and how. The checkpoint is a parent of the images, named by its content."""

    draws_with_checkpoint: ClassVar[bool] = True

    kind: Literal["student"] = "student"
    checkpoint: str = Field(
        default="checkpoint@latest", description="checkpoint@dpo, ...; a run gives its own", json_schema_extra=RUN
    )
    weights: Weights = Field(default="ema", description="ema: their moving average")
    sample: SampleConfig = Field(default=SampleConfig(), description="how it draws")

    @property
    def wants_gpu(self) -> bool:
        """See `GeneratorMember.wants_gpu`."""
        return True

    def open(self, work: Work, worker: Worker) -> "StudentGenerator":
        """See `GeneratorMember.open`. Raises CheckpointCorrupt, ModelError."""
        return StudentGenerator(self._sampler(work, worker), self.sample)

    def _sampler(self, work: Work, worker: Worker) -> Sampler:
        found = [ref for ref in work.parents if ref.kind == "checkpoint"]
        if not found:
            raise ConfigError(f"generator {self.kind} draws with a checkpoint: name it, for example checkpoint@dpo")
        return Sampler.from_checkpoint(worker.store.open(found[0]), worker.store, worker.device, self.weights)


class UntrainedGeneratorConfig(StudentGeneratorConfig):
    """Freshly initialised weights of a checkpoint's shape: what training is compared with."""

    kind: Literal["untrained"] = "untrained"  # pyright: ignore[reportIncompatibleVariableOverride]
    seed: int = Field(default=0, description="of the fresh weights")

    def open(self, work: Work, worker: Worker) -> "StudentGenerator":
        """See `GeneratorMember.open`."""
        sampler = self._sampler(work, worker)
        fresh = Student(sampler.student.config).init(derive_seed(self.seed, "untrained"))
        return StudentGenerator(replace(sampler, student=fresh.to(worker.device).eval()), self.sample)


class StudentGenerator:
    """See `lightgen.generators.sampler`."""

    def __init__(self, sampler: Sampler, config: SampleConfig) -> None:
        self.sampler, self.config = sampler, config

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Drawn]:
        """See `Generator.generate`. A size of 0 is the one trained on."""
        return list(self.sampler.images(captions, seeds, self.config, height_px or None, width_px or None))
