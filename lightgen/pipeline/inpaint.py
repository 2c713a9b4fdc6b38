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
from lightgen.pipeline.text_to_image import Callback, Embeds, Generators, LightGenPipeline, Prompts, StepEnd, seeds_of


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
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Images whose pixels outside the mask are those of `image`; the other arguments are `LightGenPipeline`'s.

        Args:
            image: PIL, NumPy [h, w, 3] in 0..1 or torch [3, h, w] in 0..1, one for all prompts or one a prompt.
            mask_image: white (at least 0.5) where it is drawn again: PIL, NumPy or torch, one or one a prompt.
            height: px; by default that of `image`. Image and mask are resized to it. `width` likewise.

        Masks that differ are drawn one prompt after the other, and steps are counted for each.
        """
        on_step = StepEnd(callback_on_step_end, callback_on_step_end_tensor_inputs)
        self._check(output_type, on_step)
        if image is None or mask_image is None:
            raise ValueError("`image` and `mask_image` have to be given.")
        text, against = self._texts(
            prompt, negative_prompt, Embeds(prompt_embeds, prompt_attention_mask),
            Embeds(negative_prompt_embeds, negative_prompt_attention_mask), num_images_per_prompt,
        )  # fmt: skip
        seeds = seeds_of(generator, len(text.tokens))
        own = _size(image)
        grid = self._grid(height or own[0], width or own[1])
        pixels, mask = self._read(image, mask_image, height or own[0], width or own[1])
        masks = len(mask)
        pixels, mask = (
            _each(name, one, len(seeds), num_images_per_prompt)
            for name, one in (("image", pixels), ("mask_image", mask))
        )
        size = len(seeds) if masks == 1 else num_images_per_prompt
        config, known = self._settings(num_inference_steps, guidance_scale), self._encode(pixels)
        parts = []
        for first in range(0, len(seeds), size):
            some = slice(first, first + size)
            hole = Hole(patchify(known[some], self._net.config.patch), self._hidden(mask[first], grid))
            aside = None if against is None else _some(against, some)
            parts.append(self._draw(_some(text, some), aside, grid, seeds[some], config, on_step, hole))
        latents = torch.cat(parts)
        if output_type == "latent":
            return self._finish(latents, output_type, return_dict)
        drawn = self._decode(latents)
        return self._finish(torch.where(mask.to(drawn.device), drawn, pixels.to(drawn)), output_type, return_dict)

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
            raise ValueError(f"`image` has {pixels.shape[1]} channels for 3, `mask_image` {white.shape[1]} for 1.")
        return pixels.float(), white >= 0.5

    def _encode(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Latents in the space that the student learned, as float32."""
        settings = self.vae.config
        with self._whole_vae() as dtype:
            mean = self.vae.encode(pixels.to(self.vae.device, dtype)).latent_dist.mode().float()
        return (mean - (settings.get("shift_factor") or 0.0)) * settings.scaling_factor

    def _hidden(self, mask: Bool[Tensor, "1 H W"], grid: Grid) -> Bool[Tensor, " n"]:
        if not mask.any():
            raise ValueError("`mask_image` covers nothing: paint white what is to be drawn again.")
        return hidden_tokens(mask[0].numpy(), grid)


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
