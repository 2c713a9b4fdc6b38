"""`LightGenInpaintPipeline`: the part of an image under a mask is drawn again; the rest is seen and kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from lightgen.generators.inpainting import hidden_tokens
from lightgen.model.masking import patchify
from lightgen.model.sampling import Hole
from lightgen.model.student import Grid, Text
from lightgen.pipeline.arguments import Callback, Embeds, Generators, Prompts, seeds_of
from lightgen.pipeline.components import works_on
from lightgen.pipeline.text_to_image import LightGenPipeline

SHAPES = "arrays are [h, w, 3] for `image` and [h, w] for `mask_image`, tensors [3, h, w] and [h, w]"


class LightGenInpaintPipeline(LightGenPipeline):
    """See the module; the components are those of a `LightGenPipeline`, and so are the folders."""

    @torch.no_grad()
    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: Prompts = None,
        image: Any = None,
        mask_image: Any = None,
        negative_prompt: Prompts = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        height: int | None = None,
        width: int | None = None,
        generator: Generators = None,
        prompt_embeds: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        negative_prompt_attention_mask: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Images whose pixels outside the mask are those of `image`; the other arguments are `LightGenPipeline`'s.

        Args:
            image: PIL, NumPy [h, w, 3] or torch [3, h, w], in 0..1 or of whole numbers to 255, one for all prompts or
                one a prompt.
            mask_image: white (at least 0.5) where it is drawn again: PIL, NumPy or torch, one or one a prompt.
            height: px; by default that of `image`. Image and mask are resized to it. `width` likewise.

        Masks that differ are drawn one prompt after the other, and steps are counted for each.
        """
        on_step = self._begin(output_type, callback_on_step_end, callback_on_step_end_tensor_inputs)
        if image is None or mask_image is None:
            raise ValueError("`image` and `mask_image` have to be given.")
        text, against = self._texts(
            prompt, negative_prompt, Embeds(prompt_embeds, prompt_attention_mask),
            Embeds(negative_prompt_embeds, negative_prompt_attention_mask), num_images_per_prompt,
        )  # fmt: skip
        seeds = seeds_of(generator, len(text.tokens))
        image, mask_image = _unit("image", image), _unit("mask_image", mask_image)
        own = _size(image)
        shape = (height or own[0], width or own[1])
        grid, (pixels, mask) = self._grid(*shape), self._read(image, mask_image, *shape)
        size = len(seeds) if len(mask) == 1 else num_images_per_prompt
        pixels = _each("image", pixels, len(seeds), num_images_per_prompt)
        mask = _each("mask_image", mask, len(seeds), num_images_per_prompt)
        known = patchify(self._encode(pixels), self._net.config.patch)
        config, parts = self._settings(num_inference_steps, guidance_scale), []
        for first in range(0, len(seeds), size):
            some = slice(first, first + size)
            hole = Hole(known[some], self._hidden(mask[first], grid))
            aside = None if against is None else _some(against, some)
            parts.append(self._draw(_some(text, some), aside, grid, seeds[some], config, on_step, hole))
        made = torch.cat(parts)
        if output_type != "latent":
            drawn = self._decode(made)
            made = torch.where(mask.to(drawn.device), drawn, pixels.to(drawn))
        return self._finish(made, output_type, return_dict)

    def _read(
        self, image: Any, mask: Any, height: int, width: int
    ) -> tuple[Float[Tensor, "b 3 H W"], Bool[Tensor, "b 1 H W"]]:
        """Pixels in [-1, 1] and where they are drawn again, of the size asked for."""
        masks = VaeImageProcessor(
            vae_scale_factor=self.vae_scale_factor, do_normalize=False, do_binarize=True, do_convert_grayscale=True
        )
        pixels = self.image_processor.preprocess(image, height=height, width=width)
        white = masks.preprocess(mask, height=height, width=width)
        if white.shape[1] != 1 or pixels.shape[1] != 3:
            found = f"`image` has {pixels.shape[1]} channels for 3, `mask_image` {white.shape[1]} for 1"
            raise ValueError(f"{found}: {SHAPES}.")
        return pixels.float(), white >= 0.5

    def _encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Latents in the space that the student learned, as float32."""
        settings = self.vae.config
        with self._whole_vae() as dtype:
            mean = self.vae.encode(pixels.to(works_on(self.vae), dtype)).latent_dist.mode().float()
        return (mean - (settings.get("shift_factor") or 0.0)) * settings.scaling_factor

    def _hidden(self, mask: Bool[Tensor, "1 H W"], grid: Grid) -> Bool[Tensor, " n"]:
        if not mask.any():
            raise ValueError("`mask_image` covers nothing: paint white what is to be drawn again.")
        return hidden_tokens(mask[0].numpy(), grid)


def _unit(name: str, given: Any) -> Any:
    """Pictures in colour and numbers in 0..1. Bytes of an image, and all of a mask above 1, are of 255. Raises
    ValueError.
    """
    if isinstance(given, list | tuple) and given:
        return [_unit(name, one) for one in given]
    if isinstance(given, Image.Image):
        return given if name == "mask_image" else given.convert("RGB")
    if not isinstance(given, np.ndarray | Tensor):
        raise ValueError(f"`{name}` has to be PIL, NumPy or torch, or a list of them, but is {given!r}")
    mask = name == "mask_image"
    if given.ndim < (2 if mask else 3):
        raise ValueError(f"`{name}` has shape {tuple(given.shape)}: {SHAPES}.")
    whole = str(given.dtype).removeprefix("torch.").startswith(("int", "uint"))
    most = float(given.max())
    bright = most > 1 + 1e-3
    if bright and not whole and not mask:
        raise ValueError(f"`{name}` holds {most:g}, but floats are in 0..1: divide by 255, or give whole numbers.")
    # A mask of 0 and 1 is one, a picture of such bytes is nearly black. A division makes floats of whole numbers.
    return given / (255 if bright or (whole and not mask) else 1)


def _size(image: Any) -> tuple[int, int]:
    """Height and width of an image, or of the first of many."""
    first = image[0] if isinstance(image, list | tuple) else image
    if isinstance(first, Image.Image):
        return first.height, first.width
    return tuple(first.shape[-3:-1] if isinstance(first, np.ndarray) else first.shape[-2:])


def _each(name: str, given: Tensor, count: int, copies: int) -> Tensor:
    """One row for each of `count` images, `copies` of a prompt."""
    prompts = count // copies
    if len(given) not in (1, prompts):
        raise ValueError(f"`{name}` has {len(given)} images, but there are {prompts} prompts.")
    return given.expand(prompts, -1, -1, -1).repeat_interleave(copies, dim=0)


def _some(text: Text, rows: slice) -> Text:
    return Text(text.tokens[rows], None if text.keep is None else text.keep[rows])
