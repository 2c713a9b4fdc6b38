"""`LightGenPipeline`: prompts in, images out, called, saved and loaded like any pipeline of diffusers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from huggingface_hub import snapshot_download
from jaxtyping import Bool, Float
from torch import Tensor

from lightgen.encoders.t5 import T5TextEncoder, load_t5
from lightgen.encoders.text import TEXT_CONFIG, TextEncoder, check_padding
from lightgen.encoders.words import WordsConfig
from lightgen.errors import ModelError
from lightgen.generators.restore import Weights
from lightgen.model.masking import patchify, unpatchify
from lightgen.model.padding import stack_text
from lightgen.model.sampling import Hole, SampleConfig, sample_latents, tokens_by_turn
from lightgen.model.student import Grid, Student, Text
from lightgen.pipeline.arguments import (
    Callback,
    Embeds,
    Generators,
    Prompts,
    StepEnd,
    check_call,
    check_copies,
    check_embeds,
    seeds_of,
    settings_of_call,
    texts_of,
    tokens_of_size,
)
from lightgen.pipeline.components import (
    DecodingScheduler,
    StudentModel,
    VaeModel,
    check_components,
    reduction,
    works_on,
)
from lightgen.pipeline.restore import components_of_checkpoint

FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "pipeline.py")  # of a folder, and so of a repository


class Interrupted(Exception):
    """A caller set `_interrupt`: nothing more is drawn."""

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens


class LightGenPipeline(DiffusionPipeline):
    """A student, its scheduler and VAE, and the text encoder where it has weights.

    A student that reads `words` has no text encoder beside it: its settings are all. A T5 is saved in the folder, or
    given to `from_pretrained`, or else loaded from where the student's config says, when the first prompt comes.
    """

    _optional_components: ClassVar[list[str]] = ["text_encoder", "tokenizer"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]
    model_cpu_offload_seq = "text_encoder->student->vae"
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["student"]  # layer by layer: it has parameters of its own

    def __init__(
        self,
        student: StudentModel,
        scheduler: DecodingScheduler,
        vae: VaeModel,
        text_encoder: Any = None,
        tokenizer: Any = None,
    ) -> None:
        super().__init__()
        check_components(student, vae)
        self.register_modules(
            student=student, scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer
        )
        self.text_settings = TEXT_CONFIG.validate_python(dict(student.config["text"]))
        if isinstance(self.text_settings, WordsConfig) and text_encoder is not None:
            raise ValueError("This student reads `words`: it takes no text encoder.")
        check_padding(self._net.config.attend_padding, getattr(self.text_settings, "padded", False))
        self.vae_scale_factor = reduction(vae)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._interrupt, self._num_timesteps = False, 0

    @classmethod
    def from_checkpoint(cls, store: str, ref: str = "checkpoint@latest", weights: Weights = "ema") -> Self:
        """The pipeline of a sealed checkpoint, such as `checkpoint@tag:good`, on the CPU; a T5 is not loaded yet.

        Raises RefNotFound, ConfigError, ModelError.
        """
        return cls(**components_of_checkpoint(store, ref, weights))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **given: Any) -> Self:
        """The pipeline in a folder that `save_pretrained` wrote, or in a repository of the hub; options of diffusers.

        Raises ModelError for a folder of version 0.1, and what diffusers raises.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            known = ("revision", "token", "cache_dir", "local_files_only", "force_download")
            options = {name: given[name] for name in known if name in given}
            folder = Path(snapshot_download(str(pretrained_model_name_or_path), allow_patterns=list(FILES), **options))
        if (folder / "sampling.json").is_file():
            raise ModelError(f"{folder} was written by version 0.1; write it again: lightgen export CHECKPOINT FOLDER")
        return super().from_pretrained(folder, **given)

    def save_pretrained(self, save_directory: str | Path, **given: Any) -> None:
        """All components in one folder, and `pipeline.py`, which names this class to `DiffusionPipeline`.

        A T5 that was not loaded stays where it is and is named again; `load_text_encoder` first takes it along.
        """
        name = type(self).__name__
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        source = f'"""The class of this pipeline."""\n\nfrom lightgen.pipeline import {name}\n\n__all__ = ["{name}"]\n'
        (Path(save_directory) / "pipeline.py").write_text(source, encoding="utf-8")
        super().save_pretrained(save_directory, **given)

    @property
    def interrupt(self) -> bool:
        """Whether a callback asked to stop."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Decoding steps of the last call."""
        return self._num_timesteps

    @property
    def _net(self) -> Student:
        return self.student.net

    @torch.no_grad()
    def __call__(
        self,
        prompt: Prompts = None,
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
        """Images of each prompt, one after the other; what is left out is as the scheduler and the student say.

        Args:
            negative_prompt: what guidance leads away from; by default no text at all. One, or one a prompt.
            num_inference_steps: passes of the trunk, each of which draws some tokens.
            guidance_scale: strength of the prompt; none at 1 and below, as in diffusers.
            height: px, a multiple of a token's side; by default that of training. `width` likewise.
            generator: gives each image its seed: one for all, one after the other, or a list of one an image.
            prompt_embeds: [b, l, t] of the text encoder, as `encode_prompt` gives them, in place of `prompt`.
            prompt_attention_mask: [b, l], which of them are true; by default all.
            output_type: "pil", "np" (float32 [n, h, w, 3] in 0..1), "pt" (float32 [n, 3, h, w] in 0..1) or "latent".
            callback_on_step_end: called as `(pipe, step, tokens left to draw, tensors)`; a dict it returns with
                "latents" [n, c, h, w] takes the place of them. Tokens that are not drawn yet are zeros.

        Raises ValueError for what does not fit together.
        """
        on_step = self._begin(output_type, callback_on_step_end, callback_on_step_end_tensor_inputs)
        grid = self._grid(height, width)
        text, against = self._texts(
            prompt, negative_prompt, Embeds(prompt_embeds, prompt_attention_mask),
            Embeds(negative_prompt_embeds, negative_prompt_attention_mask), num_images_per_prompt,
        )  # fmt: skip
        seeds = seeds_of(generator, len(text.tokens))
        config = self._settings(num_inference_steps, guidance_scale)
        latents = self._draw(text, against, grid, seeds, config, on_step)
        return self._finish(latents if output_type == "latent" else self._decode(latents), output_type, return_dict)

    def encode_prompt(self, prompt: str | Sequence[str]) -> tuple[Float[Tensor, "b l t"], Bool[Tensor, "b l"]]:
        """The text encoder's vectors of each prompt and which of them are true, for `prompt_embeds` and its mask."""
        vectors, mask = stack_text(self._text_encoder().encode(texts_of("prompt", prompt)))
        device = works_on(self.student)
        return vectors.to(device, self.student.dtype), mask.to(device)

    def load_text_encoder(self) -> None:
        """Load the T5 that the student's config names, unless there is one or none is needed. Raises ModelError."""
        if self.text_encoder is not None or isinstance(self.text_settings, WordsConfig):
            return
        tokenizer, model = load_t5(self.text_settings, "cpu")
        self.register_modules(tokenizer=tokenizer, text_encoder=model.to(self.student.device))

    def _text_encoder(self) -> TextEncoder:
        if isinstance(self.text_settings, WordsConfig):
            return self.text_settings.open("cpu")
        self.load_text_encoder()
        if self.tokenizer is None:
            raise ValueError("a text encoder came without its tokenizer: give both, or neither")
        device = str(self.text_encoder.device)
        return T5TextEncoder(self.text_settings, device, (self.tokenizer, self.text_encoder))

    def _begin(self, output_type: str, call: Callback | None, tensors: Sequence[str] | None) -> StepEnd:
        on_step = StepEnd.of(call, tensors)
        check_call(output_type, on_step, self._callback_tensor_inputs)
        self._interrupt = False
        return on_step

    def _grid(self, height: int | None, width: int | None) -> Grid:
        side = self.vae_scale_factor * self._net.config.patch
        size: int = self.student.config["sample_size"]
        return Grid(*tokens_of_size(height or size, width or size, side))

    def _texts(
        self, prompt: Prompts, negative: Prompts, given: Embeds, negative_given: Embeds, copies: int
    ) -> tuple[Text, Text | None]:
        """The aligned text of every image, and what guidance leads away from; None is no text at all."""
        check_copies(copies)
        given, negative_given = (
            self._vectors("prompt", prompt, given), self._vectors("negative_prompt", negative, negative_given)
        )  # fmt: skip
        text, against = self._aligned(given), self._aligned(negative_given)
        if text is None:
            raise ValueError("Provide either `prompt` or `prompt_embeds`: both are missing.")
        count = len(text.tokens)
        if against is not None and len(against.tokens) not in (1, count):
            raise ValueError(f"`negative_prompt` has {len(against.tokens)} texts, but there are {count} prompts.")
        if against is not None and len(against.tokens) < count:
            against = _repeat(against, count)
        return _repeat(text, copies), None if against is None else _repeat(against, copies)

    def _vectors(self, name: str, prompt: Prompts, given: Embeds) -> Embeds:
        if prompt is not None and given.vectors is not None:
            raise ValueError(f"Cannot forward both `{name}` and `{name}_embeds`. Please make sure to only forward one.")
        check_embeds(name, given, self._net.config.text_dim)
        return given if prompt is None else Embeds(*self.encode_prompt(texts_of(name, prompt)))

    def _aligned(self, given: Embeds) -> Text | None:
        if given.vectors is None:
            return None
        mask = torch.ones(given.vectors.shape[:2]) if given.mask is None else given.mask
        device = works_on(self.student)
        return self.student.ready().text(given.vectors.to(device, self.student.dtype), mask.to(device).bool())

    def _settings(self, steps: int | None, guidance: float | None) -> SampleConfig:
        """The scheduler's settings and those of this call; weights of half precision are their own precision."""
        precision = None if self.student.dtype == torch.float32 else "fp32"
        # As in diffusers, there is guidance above 1 only: 0 and less do not draw without the prompt.
        scale = max(guidance, 1.0) if isinstance(guidance, int | float) else guidance
        return settings_of_call(self.scheduler.sample, {"iterations": steps, "guidance": scale, "precision": precision})

    def _draw(
        self,
        text: Text,
        against: Text | None,
        grid: Grid,
        seeds: Sequence[int],
        config: SampleConfig,
        on_step: StepEnd,
        hole: Hole | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Latents of one image a seed, in the space that the student learned."""
        if hole is not None and self._interrupt:  # while the images before these were drawn
            return unpatchify(hole.tokens, self._net.config.patch, grid.rows, grid.columns)
        hidden = torch.ones(grid.tokens, dtype=torch.bool) if hole is None else hole.hidden
        counts = tokens_by_turn(grid, hidden, config)
        left = [sum(counts[step + 1 :]) for step in range(len(counts))]
        self._num_timesteps = len(counts)
        progress: Any = self.progress_bar  # diffusers decorates it in a way that hides its arguments
        with progress(total=len(counts)) as bar:

            def after(step: int, tokens: Tensor) -> Tensor:
                bar.update()
                tokens = self._called_back(step, left[step], tokens, grid, on_step)
                if self._interrupt:
                    raise Interrupted(tokens)
                return tokens

            try:
                tokens = sample_latents(
                    self.student.ready(), text, grid, seeds, config, hole=hole, against=against, on_step=after
                )  # fmt: skip
            except Interrupted as stop:
                tokens = stop.tokens
        return unpatchify(tokens, self._net.config.patch, grid.rows, grid.columns)

    def _called_back(self, step: int, left: int, tokens: Tensor, grid: Grid, on_step: StepEnd) -> Tensor:
        """The tokens with which decoding goes on."""
        if on_step.call is None:
            return tokens
        latents = unpatchify(tokens, self._net.config.patch, grid.rows, grid.columns)
        return patchify(on_step.latents(self, step, left, latents), self._net.config.patch).to(tokens)

    def _decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Pixels in [-1, 1] as float32, not clamped."""
        settings = self.vae.config
        z = latents / settings.scaling_factor + (settings.get("shift_factor") or 0.0)
        with self._whole_vae() as dtype:
            return self.vae.decode(z.to(works_on(self.vae), dtype)).sample.float()

    @contextmanager
    def _whole_vae(self) -> Iterator[torch.dtype]:
        """The type in which the VAE works here: some overflow in float16 and say so."""
        before = self.vae.dtype
        upcast = before == torch.float16 and self.vae.config.get("force_upcast", False)
        if upcast:
            self.vae.to(torch.float32)
        try:
            yield self.vae.dtype
        finally:
            if upcast:
                self.vae.to(before)

    def _finish(self, images: Tensor, output_type: str, return_dict: bool) -> ImagePipelineOutput | tuple[Any]:
        made: Any = images if output_type == "latent" else self.image_processor.postprocess(images, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=made) if return_dict else (made,)


def _repeat(text: Text, copies: int) -> Text:
    """Each text `copies` times, one after the other."""
    keep = None if text.keep is None else text.keep.repeat_interleave(copies, dim=0)
    return Text(text.tokens.repeat_interleave(copies, dim=0), keep)
