"""Vision-language model `transformers`: Qwen2-VL, Qwen2.5-VL and Qwen3-VL on this machine.

The answer to a yes-or-no question is the next token's probability, summed over all spellings that the tokenizer has.
Questions about the same pictures read them once; others of like length share a batch. An answer depends on no other but
for the rounding of a product. Memory: the weights, and the pictures of the questions that are asked together.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator

from lightgen.config import RUN
from lightgen.errors import ModelError, ModelIncomplete
from lightgen.seeds import derive_seed
from lightgen.storage.networks import META, library_errors, load_network
from lightgen.storage.weights import DTYPE_BYTES, Weights, weights_folder
from lightgen.vlm.base import NO, REHEARSED, YES, Asked, Draw, VlmMember, YesNo
from lightgen.vlm.prefix import logits_after
from lightgen.vlm.processor import Prepared, QwenProcessor, conversation
from lightgen.work import Worker
from schemas.scores import Unscored

CLASSES = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}
PARAMETERS = 8.3e9  # of Qwen2.5-VL-7B
TOKEN_PX = 28  # side of what becomes one token


class TransformersVlmConfig(Weights, VlmMember):
    """Which weights answer, and how large they see a picture."""

    kind: Literal["transformers"] = "transformers"
    model: str = Field(
        default="Qwen/Qwen2.5-VL-7B-Instruct", description="local folder, or owner/name on the Hugging Face hub"
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="bfloat16", description="of weights and products")
    min_pixels: int = Field(default=56 * 56, ge=1, description="a smaller picture is enlarged")
    max_pixels: int = Field(default=1280 * 28 * 28, ge=1, description="a larger picture is shrunk")
    batch_size: int = Field(default=8, ge=1, description="questions answered together", json_schema_extra=RUN)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} > max_pixels {self.max_pixels}")
        return self

    def look(self, root: Path) -> None:
        """See `Weights.look`."""
        _load(self, META, root)

    @property
    def wants_gpu(self) -> bool:
        """See `VlmMember.wants_gpu`."""
        return True

    @property
    def together(self) -> int:
        """See `VlmMember.together`: enough that questions of like length meet."""
        return 8 * self.batch_size

    @property
    def weight_bytes(self) -> float:
        """See `VlmMember.weight_bytes`."""
        return self.bytes_here() or DTYPE_BYTES[self.dtype] * PARAMETERS

    def flops(self, height_px: int, width_px: int, tokens: float) -> float:
        """See `VlmMember.flops`: a multiply-add a parameter for each token of picture and text."""
        parameters = (self.bytes_here() or 2 * PARAMETERS) / 2
        seen = min(max(height_px * width_px, self.min_pixels), self.max_pixels)
        return 2 * parameters * (seen / TOKEN_PX**2 + tokens)

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a model of the same class that says yes or no, as the picture turns it."""
        return self.tiny(folder, REHEARSED)

    def tiny(self, folder: Path, answers: Sequence[str], prompt: str = "") -> Self:
        """These settings with a tiny random model in `folder` that gives one of `answers`."""
        from lightgen.vlm.tiny import tiny_vlm

        kind = (self.settings_here(self.subfolder) or {}).get("model_type", _kind_by_name(self.model))
        own = self.own_folder(folder).with_suffix(f".{derive_seed(list(answers), prompt) % 1_000_000:06d}")
        if not own.exists():
            tiny_vlm(own, kind, answers, prompt)
        return self.model_copy(update={"model": str(own), "revision": None, "subfolder": ""})

    def open(self, worker: Worker) -> "QwenVlm":
        """See `VlmMember.open`."""
        return QwenVlm(self, worker.device)


class QwenVlm:
    """See the module."""

    def __init__(self, config: TransformersVlmConfig, device: str) -> None:
        self.config, self.device = config, device
        self.processor, self.model = _load(config, device)

    @cached_property
    def spellings(self) -> dict[str, torch.Tensor]:
        """Tokens of YES and of NO. Raises ModelError where the tokenizer has none of one."""
        found = self.processor.spellings()
        for answer, places in found.items():
            if not places:
                raise ModelError(f"model {self.config.model}: its tokenizer has no token for {answer!r}")
        return {answer: torch.tensor(places, device=self.device) for answer, places in found.items()}

    def yes_no(self, asked: Sequence[Asked]) -> list[YesNo | Unscored]:
        """See `VisionLanguageModel.yes_no`."""
        found: list[YesNo | Unscored] = [Unscored("vlm_no_answer")] * len(asked)
        for places, logits in self._next_logits(asked):
            likely = logits.float().log_softmax(dim=-1)
            sides = {side: _sum_of(likely, tokens) for side, tokens in self.spellings.items()}
            for place, yes, no in zip(places, sides[YES], sides[NO], strict=True):
                found[place] = YesNo(yes, no)
        return found

    def write(self, asked: Sequence[Asked], max_tokens: int, draw: Draw = Draw()) -> list[str | Unscored]:
        """See `VisionLanguageModel.write`."""
        found: list[str | Unscored] = [""] * len(asked)
        for places, inputs in self._batches(asked):
            seeds = [draw.seeds[place] for place in places] if draw.temperature else []
            for place, text in zip(places, self._written(inputs, max_tokens, draw.temperature, seeds), strict=True):
                found[place] = text
        return found

    def _batches(self, asked: Sequence[Asked]) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
        """Places of questions with the inputs of the model; the longest first, so that memory is known at once."""
        prepared = [self.processor.prepared(conversation(one)) for one in asked]
        order = sorted(range(len(asked)), key=lambda place: (-prepared[place].tokens, place))
        for start in range(0, len(order), self.config.batch_size):
            places = order[start : start + self.config.batch_size]
            batch: list[Prepared] = [prepared[place] for place in places]
            yield places, {name: value.to(self.device) for name, value in self.processor.inputs(batch).items()}

    def _next_logits(self, asked: Sequence[Asked]) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Places of questions with the logits of the token after each, [questions, tokens]."""
        groups = _by_pictures(asked)
        for places in (group for group in groups if len(group) > 1):
            first = self.processor.prepared(conversation(asked[places[0]]))
            prepared = [self.processor.prepared(conversation(asked[place]), first) for place in places]
            yield places, logits_after(self.model, self.processor, prepared, self.device, self.config.batch_size)
        single = [group[0] for group in groups if len(group) == 1]
        for places, inputs in self._batches([asked[place] for place in single]):
            with torch.inference_mode():
                output = self.model(**inputs, logits_to_keep=1, use_cache=False)
            yield [single[place] for place in places], output.logits[:, -1]

    @torch.inference_mode()
    def _written(self, inputs: dict[str, torch.Tensor], limit: int, temperature: float, seeds: list[int]) -> list[str]:
        from transformers import GenerationConfig, LogitsProcessorList

        start = inputs["input_ids"].shape[1]
        ends = self.model.generation_config
        settings = GenerationConfig(
            max_new_tokens=limit, do_sample=False, eos_token_id=ends.eos_token_id,
            pad_token_id=self.processor.tokenizer.pad_token_id,
        )  # fmt: skip
        dice = LogitsProcessorList([_Dice(seeds, temperature, start)] if temperature else [])
        tokens = self.model.generate(**inputs, generation_config=settings, logits_processor=dice)
        return self.processor.answers(tokens[:, start:])


class _Dice:
    """Makes the greatest logit a draw: noise of Gumbel's distribution, for each row and token from its own seed."""

    def __init__(self, seeds: Sequence[int], temperature: float, start: int) -> None:
        self.seeds, self.temperature, self.start = seeds, temperature, start

    def __call__(self, tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        rows = [self._noise(seed, tokens.shape[1] - self.start, logits.shape[1]) for seed in self.seeds]
        return logits / self.temperature + torch.stack(rows).to(logits)

    def _noise(self, seed: int, step: int, count: int) -> torch.Tensor:
        # Drawn on the CPU: generators of other devices give other numbers.
        generator = torch.Generator().manual_seed(derive_seed(seed, step))
        return -torch.empty(count).exponential_(generator=generator).log()


def _by_pictures(asked: Sequence[Asked]) -> list[list[int]]:
    """Places of questions about the same pictures, told the same before them."""
    groups: dict[object, list[int]] = {}
    for place, one in enumerate(asked):
        groups.setdefault((one.system, *map(id, one.pictures)), []).append(place)
    return list(groups.values())


def _sum_of(logits: torch.Tensor, tokens: torch.Tensor) -> list[float]:
    return logits[:, tokens].logsumexp(dim=-1).tolist()


def _kind_by_name(model: str) -> str:
    """The architecture of a model that is not here, by its name."""
    name = model.casefold()
    return "qwen3_vl" if "qwen3" in name else "qwen2_vl" if "qwen2-vl" in name else "qwen2_5_vl"


def _load(config: TransformersVlmConfig, device: str, root: Path | None = None) -> tuple[QwenProcessor, Any]:
    import transformers

    folder = weights_folder(config, root)
    kind = (config.settings_here(config.subfolder) or {}).get("model_type")
    if kind not in CLASSES:
        raise ModelError(f"model {config.model} is a {kind}; take one of {', '.join(CLASSES)}")
    dtype, bounds = getattr(torch, config.dtype), (config.min_pixels, config.max_pixels)
    model = load_network(getattr(transformers, CLASSES[kind]), folder, config.model, kind, device, dtype=dtype)
    try:
        processor = QwenProcessor.from_folder(folder, model.config.image_token_id, bounds)
    except library_errors() as error:
        raise ModelIncomplete(f"model {config.model}: not a usable {kind}: {str(error)[:300]}") from None
    return processor, model
