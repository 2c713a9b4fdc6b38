"""Operations and memory of the stages that run the student, by formula."""

from dataclasses import dataclass
from functools import cache

from lightgen.model.config import StudentConfig
from lightgen.model.flops import forward_flops, sample_flops
from lightgen.model.masking import MaskLaw
from lightgen.model.memory import activation_bytes, forward_bytes, state_bytes
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import parameter_count
from lightgen.stages.align import AlignConfig
from lightgen.stages.pretrain import PretrainConfig
from lightgen.stages.reference import ReferenceConfig

Trains = PretrainConfig | AlignConfig | ReferenceConfig
ADAM_BYTES = 16  # a parameter of a checkpoint in progress: weights, average, two moments
SEALED_BYTES = 8  # a parameter of a sealed one: weights and average
DRAWN_TOGETHER = 64


@dataclass(frozen=True)
class StudentAtSize:
    """A student on images of `tokens` tokens with texts of `words`."""

    config: StudentConfig
    tokens: int
    words: int

    @property
    def parameters(self) -> int:
        """Exact, without allocating them."""
        return _parameters(self.config.model_dump_json())

    def drawing_flops(self, sample: SampleConfig) -> float:
        """Of one image, where many are drawn together."""
        drawn = sample_flops(self.config, sample, self.tokens, self.words, DRAWN_TOGETHER)
        return drawn / DRAWN_TOGETHER

    def training_flops(self, config: Trains) -> float:
        """Of one image in training, one pair in alignment, one (pair, draw) of the reference."""
        forward = self._forward(config.masks, config.noise_copies)
        if isinstance(config, PretrainConfig):
            return 3 * forward
        if isinstance(config, ReferenceConfig):
            return 2 * forward
        if config.objective == "sft":
            return 3 * forward
        return 2 * forward * (3 if config.reference is not None else 4)

    def training_memory(self, config: Trains) -> float:
        """Of each process, in bytes."""
        hidden = self._hidden(config.masks)
        if isinstance(config, ReferenceConfig):
            alive = forward_bytes(self.config, self.tokens, hidden, self.words, config.noise_copies)
            return 4 * self.parameters + config.batch_size * alive
        launch = config.launch
        shards = launch.size if launch.strategy == "fsdp" else 1
        images = 2 if isinstance(config, AlignConfig) and config.objective == "dpo" else 1
        microbatch = config.batch_size / (launch.size * launch.accumulate)
        kept = activation_bytes(
            self.config, self.tokens, hidden, self.words, config.noise_copies, recompute=launch.recompute
        )
        live = isinstance(config, AlignConfig) and config.objective == "dpo" and config.reference is None
        frozen = 4 * self.parameters if live else 0
        return state_bytes(self.parameters, shards) + frozen + images * microbatch * kept

    def _forward(self, masks: MaskLaw, copies: int) -> float:
        hidden = self._hidden(masks)
        return forward_flops(self.config, self.tokens, hidden, self.words, copies * hidden)

    def _hidden(self, masks: MaskLaw) -> int:
        return masks.hidden(self.tokens, 0.5)


@cache
def _parameters(config: str) -> int:
    """Of the student of these settings, as JSON: a second for a large one."""
    return parameter_count(StudentConfig.model_validate_json(config))
