"""Latents of a diffusers AutoencoderKL: mean and spread of the posterior, shifted and scaled as its config says."""

from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from lightgen.config import Member
from lightgen.encoders.tiny import tiny_vae
from lightgen.errors import ConfigError
from lightgen.storage.networks import META, load_network
from lightgen.storage.weights import Weights, weights_folder

SHAPES = {f"stabilityai/stable-diffusion-3{size}": (16, 8) for size in ("-medium", ".5-medium", ".5-large")}
ENCODE_FLOPS = 1.12e12  # of 512 x 512 px


class DiffusersVaeConfig(Weights, Member):
    """Settings of a pretrained VAE; the paper's is that of Stable Diffusion 3.5 (model_facts 1.1)."""

    kind: Literal["diffusers"] = "diffusers"
    model: str = Field(
        default="stabilityai/stable-diffusion-3.5-large",
        description="local folder, or owner/name on the Hugging Face hub",
    )
    subfolder: str = Field(default="vae", description="of the folder or repository; empty: the top")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="of weights and products")

    @property
    def wants_gpu(self) -> bool:
        """Whether it is much faster on a GPU."""
        return True

    @property
    def shape(self) -> tuple[int, int] | None:
        """Channels of a latent and pixels a side that become one, as far as that is known here without fetching."""
        settings = self.settings_here(self.subfolder)
        if settings is None:
            return SHAPES.get(self.model)
        if not {"latent_channels", "block_out_channels"} <= settings.keys():
            return None
        return settings["latent_channels"], 2 ** (len(settings["block_out_channels"]) - 1)

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a narrow VAE of the same channels and reduction, where they are known."""
        own = self.own_folder(folder)
        if not own.exists():
            tiny_vae(own, *(self.shape or (16, 8)))
        return self.model_copy(update={"model": str(own), "revision": None, "subfolder": "vae"})

    def look(self, root: Path) -> None:
        """See `Weights.look`."""
        load_autoencoder(self, META, root)

    def flops(self, size_px: int) -> float:
        """Operations of encoding a square image of `size_px`, by formula; that of the paper's VAE (model_facts 8.2)."""
        return ENCODE_FLOPS * (size_px / 512) ** 2


class DiffusersVae:
    """Encoder and decoder; latents are (sample - shift) * scale."""

    def __init__(self, config: DiffusersVaeConfig, device: str) -> None:
        self.model = load_autoencoder(config, device)
        self.device, self.dtype = device, self.model.dtype
        settings = self.model.config
        self.scale: float = settings.scaling_factor
        self.shift: float = settings.shift_factor or 0.0
        self.channels: int = settings.latent_channels
        self.down = 2 ** (len(settings.block_out_channels) - 1)

    def latent_shape(self, size_px: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent of a square image."""
        if size_px % self.down:
            raise ConfigError(f"size_px {size_px} is not a multiple of {self.down}, the VAE's reduction")
        return self.channels, size_px // self.down, size_px // self.down

    @torch.inference_mode()
    def encode(self, images: UInt8[Tensor, "b H W 3"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Mean and standard deviation of each latent, float32 on the CPU."""
        pixels = images.to(self.device).movedim(-1, 1).to(self.dtype) / 127.5 - 1
        posterior = self.model.encode(pixels).latent_dist
        mean = (posterior.mean.float() - self.shift) * self.scale
        return mean.cpu(), (posterior.std.float() * self.scale).cpu()

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b H W 3"]:
        """Images of latents, clamped to what a pixel can hold."""
        z = latents.to(self.device).float() / self.scale + self.shift
        pixels = self.model.decode(z.to(self.dtype)).sample.float()
        return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(1, -1).contiguous().cpu()


def load_autoencoder(config: DiffusersVaeConfig, device: str, root: Path | None = None) -> Any:
    """The AutoencoderKL, of the model in `root` where it is given. Raises ConfigError, ModelError."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    folder = weights_folder(config, root)
    # float16 overflows in the decoder of VAEs that say so.
    settings: Any = AutoencoderKL.load_config(folder)
    upcast = config.dtype == "float16" and settings.get("force_upcast", True)
    dtype = torch.float32 if upcast else getattr(torch, config.dtype)
    return load_network(AutoencoderKL, folder, config.model, "AutoencoderKL", device, torch_dtype=dtype)
