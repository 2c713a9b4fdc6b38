"""VAEs: the closed union of their settings, what they all can do, and how a sealed one is read back."""

import json
from pathlib import Path
from typing import Annotated, Any, Protocol

import safetensors.torch
from jaxtyping import Float, UInt8
from pydantic import Field, TypeAdapter
from torch import Tensor

from lightgen.encoders.diffusers_vae import DiffusersVae, DiffusersVaeConfig
from lightgen.encoders.patch_pca import PatchPca, PatchPcaConfig
from lightgen.errors import ModelError
from lightgen.storage.locations import locate
from lightgen.storage.store import Store
from lightgen.storage.version import Version

DESCRIPTION, WEIGHTS = "vae.json", "vae.safetensors"
VaeConfig = Annotated[PatchPcaConfig | DiffusersVaeConfig, Field(discriminator="kind")]
VAE_CONFIG: TypeAdapter[PatchPcaConfig | DiffusersVaeConfig] = TypeAdapter(VaeConfig)


class Vae(Protocol):
    """Images to latent moments and back; tensors come in and go out on the CPU."""

    def latent_shape(self, size_px: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent of a square image."""
        ...

    def encode(self, images: UInt8[Tensor, "b H W 3"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Mean and standard deviation, in the shifted and scaled space the student learns."""
        ...

    def decode(self, latents: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b H W 3"]:
        """Images of latents of that space."""
        ...


def load_vae(version: Version, store: Store, device: str) -> Vae:
    """The VAE of a sealed `vae` version; raises ModelError where foreign weights are not found as they were sealed."""
    weights = version.file(WEIGHTS) if WEIGHTS in version.file_names else None
    return open_vae(vae_of_identity(read_identity(version), store), weights, device)


def read_identity(version: Version) -> dict[str, Any]:
    """The identity of the member that a `vae` version holds."""
    return json.loads(version.file(DESCRIPTION).read_text(encoding="utf-8"))["identity"]


def vae_of_identity(identity: dict[str, Any], store: Store) -> PatchPcaConfig | DiffusersVaeConfig:
    """The settings of a VAE that a version names. Raises ModelError where its weights are not found."""
    settings = {name: value for name, value in identity.items() if name not in ("revision", "weights")}
    place = locate(store, identity["weights"]) if "weights" in identity else {}
    place.pop("tokenizer_subfolder", None)
    return VAE_CONFIG.validate_python({**settings, **place})


def open_vae(config: PatchPcaConfig | DiffusersVaeConfig, weights: Path | None, device: str) -> Vae:
    """The VAE of these settings; `weights` are those of a fitted one."""
    if isinstance(config, DiffusersVaeConfig):
        return DiffusersVae(config, device)
    if weights is None:
        raise ModelError(f"{WEIGHTS} of a fitted VAE is missing")
    tensors = safetensors.torch.load_file(weights)
    return PatchPca(config.patch_px, tensors["mean"], tensors["basis"], tensors["scale"])
