"""Operations and memory of the stages that run the student, by formula."""

from dataclasses import dataclass
from functools import cache

from lightgen.config import Config
from lightgen.model.config import StudentConfig
from lightgen.model.flops import forward_flops, sample_flops, text_flops
from lightgen.model.masking import MaskLaw
from lightgen.model.memory import FLOAT, Activations, state_bytes
from lightgen.model.precision import TrainingPrecision
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
        image = self._forward(config.masks, config.noise_copies)
        pair = 2 * image - text_flops(self.config, self.words)
        if isinstance(config, ReferenceConfig):
            return pair
        if not _prefers(config):
            return 3 * image
        return pair * (4 if _asks_live(config) else 3)

    def training_memory(self, config: Trains) -> float:
        """Of each process, in bytes: what the model takes, and a microbatch."""
        return self.state_memory(config) + images_at_a_time(config) * self.sample_memory(config)

    def state_memory(self, config: Trains) -> float:
        """What the model takes in each process, in bytes; a live reference is a model more, and is not cut."""
        if isinstance(config, ReferenceConfig):
            return FLOAT * self.parameters
        shards = config.launch.size if config.launch.strategy == "fsdp" else 1
        frozen = FLOAT * self.parameters if _asks_live(config) else 0
        return state_bytes(self.parameters, shards, _product(config)) + frozen

    def sample_memory(self, config: Trains) -> float:
        """Of one image, or one pair, of a microbatch, in bytes: under the mask of the law that takes most."""
        prefers = _prefers(config)
        recompute = not isinstance(config, ReferenceConfig) and config.launch.recompute
        bound = not isinstance(config, ReferenceConfig) and config.variance_bound and not prefers
        kept = Activations(
            self.config, self.tokens, self.words, config.noise_copies, _product(config), not prefers, bound, recompute
        )
        extremes = [config.masks.hidden(self.tokens, quantile) for quantile in (0.0, 1.0)]
        if isinstance(config, ReferenceConfig):
            return max(map(kept.forward, extremes))
        again = kept.block() if recompute else 0
        return kept.text() + (2 if prefers else 1) * max(map(kept.image, extremes)) + again

    def fitting_accumulate(self, config: PretrainConfig | AlignConfig, memory: float) -> int | None:
        """The least `launch.accumulate` from here on with which a process fits into `memory`; None where none does."""
        launch, left = config.launch, memory - self.state_memory(config)
        for accumulate in range(launch.accumulate, config.batch_size // launch.size + 1):
            microbatches = launch.size * accumulate
            possible = config.batch_size % microbatches == 0 and microbatches % config.mask_ratios == 0
            if possible and config.batch_size // microbatches * self.sample_memory(config) <= left:
                return accumulate
        return None

    def _forward(self, masks: MaskLaw, copies: int) -> float:
        hidden = masks.hidden(self.tokens, 0.5)
        return forward_flops(self.config, self.tokens, hidden, self.words, copies * hidden)


def images_at_a_time(config: Trains) -> float:
    """Images of a microbatch of one process, or pairs."""
    if isinstance(config, ReferenceConfig):
        return config.batch_size
    return config.batch_size / (config.launch.size * config.launch.accumulate)


def _prefers(config: Trains) -> bool:
    """Whether it sees pairs, without dropout."""
    return isinstance(config, ReferenceConfig) or (isinstance(config, AlignConfig) and config.objective == "dpo")


def _asks_live(config: Trains) -> bool:
    return isinstance(config, AlignConfig) and config.objective == "dpo" and config.reference is None


def precision_of(config: Config) -> TrainingPrecision:
    """Of the products of a stage; what neither trains nor is compared with training takes what the device does best."""
    if isinstance(config, ReferenceConfig):
        return config.precision
    return config.loop.precision if isinstance(config, PretrainConfig | AlignConfig) else "auto"


def _product(config: Trains) -> int:
    """Bytes of an input of a matrix product; GPUs that matter multiply bfloat16 natively, which is what auto takes."""
    return 2 if precision_of(config) in ("auto", "bf16") else FLOAT


@cache
def _parameters(config: str) -> int:
    """Of the student of these settings, as JSON: a second for a large one."""
    return parameter_count(StudentConfig.model_validate_json(config))
