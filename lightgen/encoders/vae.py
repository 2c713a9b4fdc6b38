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
from lightgen.storage.version import Version
from lightgen.storage.weights import rows_digest, tensor_rows, weights_folder, weights_identity

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


def load_vae(version: Version, device: str) -> Vae:
    """The VAE of a sealed `vae` version; raises ModelError where foreign weights are not those it was sealed with."""
    names = {entry.name for receipt in version.manifest.shards for entry in receipt.files}
    weights = version.file("vae.safetensors") if "vae.safetensors" in names else None
    return open_vae(version.file("vae.json"), weights, device, str(version.ref))


def open_vae(description: Path, weights: Path | None, device: str, name: str) -> Vae:
    """The VAE that `description` (vae.json) names, fitted `weights` beside it; `name` is used in messages."""
    described: dict[str, Any] = json.loads(description.read_text(encoding="utf-8"))
    config = VAE_CONFIG.validate_python(described["config"])
    if isinstance(config, PatchPcaConfig):
        if weights is None:
            raise ModelError(f"{name}: vae.safetensors is missing")
        tensors = safetensors.torch.load_file(weights)
        return PatchPca(config.patch_px, tensors["mean"], tensors["basis"], tensors["scale"])
    found = rows_digest(tensor_rows(weights_folder(config)))
    if found != described["sha256"]:
        raise ModelError(
            f"model {config.model}: its weights ({found[:12]}) are not those of {name} "
            f"({described['sha256'][:12]}); put the old ones back or make the features anew"
        )
    return DiffusersVae(config, device)


def vae_identity(config: PatchPcaConfig | DiffusersVaeConfig) -> dict[str, Any]:
    """What names a VAE in a recipe before it is fitted or loaded."""
    if isinstance(config, PatchPcaConfig):
        return {"kind": "patch_pca"}
    return {"kind": "diffusers", "model": config.model, "subfolder": config.subfolder, **weights_identity(config)}
