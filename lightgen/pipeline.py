"""`LightGenPipeline`: a student with its encoders in one folder, called like a pipeline of diffusers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lightgen.encoders.text import TEXT_CONFIG, text_of_identity
from lightgen.encoders.vae import VAE_CONFIG, open_vae, read_identity, vae_of_identity
from lightgen.errors import ConfigError, ModelError
from lightgen.generators.restore import Weights, checkpoint_config
from lightgen.generators.sampler import Sampler
from lightgen.model.config import StudentConfig
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.seeds import derive_seed
from lightgen.storage.store import open_store

INDEX, STUDENT, WEIGHTS = "model_index.json", "student/config.json", "student/model.safetensors"
VAE, VAE_WEIGHTS, TEXT, SAMPLING = "vae/config.json", "vae/vae.safetensors", "text/config.json", "sampling.json"
OutputType = Literal["pil", "np", "pt"]


@dataclass(frozen=True)
class LightGenOutput:
    """`images`: PIL images, or uint8 [n, h, w, 3] as array or tensor."""

    images: "list[Image.Image] | np.ndarray | torch.Tensor"


class LightGenPipeline:
    """Prompts in, images out. Made by `from_pretrained` or `from_checkpoint`."""

    def __init__(self, sampler: Sampler, config: SampleConfig, parts: dict[str, bytes]) -> None:
        self.sampler, self.config, self._parts = sampler, config, parts

    @classmethod
    def from_checkpoint(cls, store: str, ref: str = "checkpoint@latest", weights: Weights = "ema") -> Self:
        """The pipeline of a sealed checkpoint, such as `checkpoint@tag:good`. Raises RefNotFound, ConfigError."""
        opened = open_store(store)
        version = opened.open(ref)
        if version.ref.kind != "checkpoint":
            raise ConfigError(f"{ref} is of kind {version.ref.kind}; give a checkpoint")
        settings = checkpoint_config(version)
        vae = opened.with_content("vae", settings.encoders.vae)
        text = text_of_identity(settings.encoders.text, opened)
        sampling = SampleConfig.model_validate_json(version.file("sampling.json").read_bytes())
        described = vae_of_identity(read_identity(vae), opened)
        index = {"_class_name": cls.__name__, "format": 1, "size_px": settings.size_px, "made_of": str(version.ref)}
        parts = {
            INDEX: _json(index),
            TEXT: _json(text.model_dump(mode="json")),
            SAMPLING: _json(sampling.model_dump(mode="json")),
            VAE: _json(described.model_dump(mode="json")),
        }
        if "vae.safetensors" in vae.file_names:
            parts[VAE_WEIGHTS] = vae.file("vae.safetensors").read_bytes()
        return cls(Sampler.from_checkpoint(version, opened, weights=weights), sampling, parts)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str = "cpu") -> Self:
        """The pipeline that `save_pretrained` wrote. Raises ModelError naming the file that is wrong."""
        root = Path(folder)
        if not (root / INDEX).is_file():
            raise ModelError(f"{root}: no {INDEX}; give a folder that LightGenPipeline.save_pretrained wrote")
        try:
            parts = {name: (root / name).read_bytes() for name in (INDEX, TEXT, SAMPLING, VAE)}
            if (root / VAE_WEIGHTS).is_file():
                parts[VAE_WEIGHTS] = (root / VAE_WEIGHTS).read_bytes()
            index = json.loads(parts[INDEX])
            student = Student(StudentConfig.model_validate_json((root / STUDENT).read_bytes()))
            student.load_state_dict(load_file(root / WEIGHTS))
            text = TEXT_CONFIG.validate_json(parts[TEXT]).open(device)
            fitted = root / VAE_WEIGHTS if VAE_WEIGHTS in parts else None
            vae = open_vae(VAE_CONFIG.validate_json(parts[VAE]), fitted, device)
            config = SampleConfig.model_validate_json(parts[SAMPLING])
            size_px = int(index["size_px"])
        except (OSError, ValidationError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{root}: not a usable LightGenPipeline: {error}") from None
        return cls(Sampler(student.to(device).eval(), vae, text, size_px, device), config, parts)

    def save_pretrained(self, folder: str | Path) -> None:
        """Student, VAE, text encoder's settings and sampling in one folder; weights as safetensors.

        A VAE or text encoder that was named by id or path stays where it is and is named again.
        """
        root = Path(folder)
        if root.exists() and any(root.iterdir()):
            raise ConfigError(f"{root} is not empty; nothing was written")
        student = self.sampler.student
        for name, data in {**self._parts, STUDENT: student.config.model_dump_json(indent=1).encode()}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        save_file({key: value.cpu().contiguous() for key, value in student.state_dict().items()}, root / WEIGHTS)

    def to(self, device: str) -> Self:
        """Move the student; returns itself."""
        one = self.sampler
        self.sampler = Sampler(one.student.to(device), one.vae, one.text, one.size_px, device)
        return self

    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | None = None,
        seed: int = 0,
        callback: Callable[[int, torch.Tensor], object] | None = None,
        output_type: OutputType = "pil",
    ) -> LightGenOutput:
        """Images of each prompt, one after the other; what is left out is as the student was told in training.

        The seed of an image comes from `seed` (or a number drawn from `generator`), its prompt and its index, so it
        does not depend on what else is drawn. `callback(step, tokens)` is called after each decoding step.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        given = {"iterations": num_inference_steps, "guidance": guidance_scale}
        changed = {name: value for name, value in given.items() if value is not None}
        config = SampleConfig.model_validate({**self.config.model_dump(), **changed})
        seeds = [derive_seed(seed, "image", one, index) for one in prompts for index in range(num_images_per_prompt)]
        wanted = [one for one in prompts for _ in range(num_images_per_prompt)]
        images = self.sampler.images(wanted, seeds, config, height, width, negative=negative_prompt, on_step=callback)
        return LightGenOutput(_as(images, output_type))


def _as(images: np.ndarray, output_type: OutputType) -> "list[Image.Image] | np.ndarray | torch.Tensor":
    if output_type == "np":
        return images
    return torch.from_numpy(images) if output_type == "pt" else [Image.fromarray(image) for image in images]


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
