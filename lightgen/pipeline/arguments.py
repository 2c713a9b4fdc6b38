"""What a call of the pipelines is given: checked, or told apart, before anything is computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor

from lightgen.model.sampling import SampleConfig

Prompts = str | Sequence[str] | None
Generators = torch.Generator | Sequence[torch.Generator] | None
Callback = Callable[[Any, int, int, dict[str, Tensor]], dict[str, Tensor]]
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
NAMES = {"iterations": "num_inference_steps", "guidance": "guidance_scale"}  # ours, and those of diffusers


@dataclass(frozen=True)
class Embeds:
    """Vectors of a text encoder [b, l, t] and which of them are true [b, l], where a caller has computed them."""

    vectors: Tensor | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class StepEnd:
    """What a caller does between two decoding steps, and which tensors it asks for."""

    call: Callback | None = None
    tensors: Sequence[str] = ("latents",)

    @classmethod
    def of(cls, call: Callback | None, tensors: Sequence[str] | None) -> "StepEnd":
        """Callbacks of diffusers name their tensors themselves."""
        return cls(call, getattr(call, "tensor_inputs", tensors) or ())

    def latents(self, pipe: Any, step: int, left: int, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The latents with which decoding goes on. Raises TypeError and ValueError for what cannot be latents."""
        if self.call is None:
            return latents
        given = self.call(pipe, step, left, {"latents": latents} if "latents" in self.tensors else {})
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"`callback_on_step_end` has to return a dict of tensors, but returned {type(given)}")
        changed = (given or {}).get("latents", latents)
        if not isinstance(changed, Tensor):
            raise TypeError(f"`callback_on_step_end` has to return latents as a tensor, but returned {type(changed)}")
        if changed.shape != latents.shape:
            shapes = f"{tuple(changed.shape)} for {tuple(latents.shape)}"
            raise ValueError(f"`callback_on_step_end` returned latents of another shape: {shapes}")
        return changed


def check_call(output_type: str, on_step: StepEnd, known: Sequence[str]) -> None:
    """Raises ValueError for an output type, or tensors for the callback, that are not there."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` has to be one of {', '.join(OUTPUT_TYPES)}, but is {output_type!r}")
    unknown = [name for name in on_step.tensors if name not in known]
    if unknown:
        raise ValueError(f"`callback_on_step_end_tensor_inputs` has to be in {known}, but found {unknown}")


def texts_of(name: str, given: Prompts) -> list[str]:
    """The prompts of an argument. Raises ValueError."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"`{name}` has to be of type `str` or `list` of `str` but is {given!r}")
    if not texts:
        raise ValueError(f"`{name}` is an empty list: give at least one text.")
    return list(texts)


def check_embeds(name: str, given: Embeds, wide: int) -> None:
    """Raises ValueError for what are no vectors of the student's text encoder."""
    vectors, mask = given.vectors, given.mask
    if vectors is None:
        if mask is not None:
            raise ValueError(f"`{name}_attention_mask` belongs to `{name}_embeds`, which are missing.")
        return
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
        kind = vectors.dtype if isinstance(vectors, Tensor) else type(vectors)
        raise ValueError(f"`{name}_embeds` has to be a tensor of floats but is {kind}")
    if vectors.ndim != 3 or vectors.shape[2] != wide or 0 in vectors.shape:
        raise ValueError(f"`{name}_embeds` has shape {tuple(vectors.shape)}, but the student reads [b, l, {wide}]")
    if mask is not None and mask.shape != vectors.shape[:2]:
        raise ValueError(f"`{name}_attention_mask` has shape {tuple(mask.shape)} for {tuple(vectors.shape)}")


def check_copies(copies: int) -> None:
    """Raises ValueError for a number of images that cannot be."""
    if not isinstance(copies, Integral) or copies < 1:
        raise ValueError(f"`num_images_per_prompt` has to be at least 1, a whole number, but is {copies!r}.")


def tokens_of_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of tokens of `side` px. Raises ValueError for a size that has no whole number of them."""
    if any(not isinstance(one, Integral) or one < side or one % side for one in (height, width)):
        fits = ""
        if all(isinstance(one, int | float) for one in (height, width)):
            near = [max(side, int(one) // side * side) for one in (height, width)]
            fits = f" You can use height {near[0]} and width {near[1]}."
        raise ValueError(f"`height` and `width` have to be divisible by {side} but are {height!r} and {width!r}.{fits}")
    return height // side, width // side


def settings_of_call(base: SampleConfig, changed: Mapping[str, Any]) -> SampleConfig:
    """`base` with what is not None in `changed`. Raises ValueError under the names that the caller knows."""
    given = {name: value for name, value in changed.items() if value is not None}
    try:
        return SampleConfig.model_validate({**base.model_dump(), **given})
    except ValidationError as error:
        wrong = [f"`{NAMES[str(one['loc'][0])]}` is {one['input']!r}: {one['msg']}" for one in error.errors()]
        raise ValueError("; ".join(wrong)) from None


def seeds_of(generator: Generators, count: int) -> list[int]:
    """The seed of each image, drawn from its generator, or from one for all, one after the other."""
    if isinstance(generator, list | tuple) and len(generator) != count:
        raise ValueError(
            f"You have passed a list of generators of length {len(generator)}, but requested an effective batch size "
            f"of {count}. Make sure the batch size matches the length of the generators."
        )
    each = generator if isinstance(generator, list | tuple) else [generator] * count
    return [_seed(one) for one in each]


def _seed(generator: Any) -> int:
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError(f"`generator` has to be a torch.Generator or a list of them but has {generator!r}")
    device = "cpu" if generator is None else generator.device
    return int(torch.randint(2**63 - 1, (), generator=generator, device=device))
