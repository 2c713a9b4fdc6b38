"""A linear autoencoder fitted on the images: the principal components of their pixel patches.

Sizes: images are [b, H, W, 3] uint8, latents [b, channels, H / patch_px, W / patch_px]; nothing in it is random.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

import torch
from einops import rearrange
from jaxtyping import Float, Float64, UInt8
from pydantic import Field, model_validator
from torch import Tensor

from lightgen.config import Member
from lightgen.errors import ConfigError


class PatchPcaConfig(Member):
    """Settings of the embedded VAE."""

    kind: Literal["patch_pca"] = "patch_pca"
    patch_px: int = Field(default=4, ge=1, description="side of a patch")
    channels: int = Field(default=16, ge=1, description="components kept; 2x2 patchify makes tokens of four times this")
    whitening: float = Field(
        default=0.0, ge=0, le=1, description="1: every channel has unit variance; 0: only their mean has"
    )
    fit_sizes_px: tuple[int, ...] = Field(
        default=(32, 64), min_length=1, description="resolutions whose patches are fitted"
    )
    fit_images: int = Field(default=4096, ge=1, description="images used, those of the smallest ids")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.channels > 3 * self.patch_px**2:
            raise ValueError(f"channels: {self.channels} is more than the {3 * self.patch_px**2} values of a patch")
        bad = [size for size in self.fit_sizes_px if size % self.patch_px]
        if bad:
            raise ValueError(f"fit_sizes_px: {bad[0]} is not a multiple of patch_px {self.patch_px}")
        return self

    @property
    def wants_gpu(self) -> bool:
        """Whether it is much faster on a GPU."""
        return False

    @property
    def shape(self) -> tuple[int, int]:
        """Channels of a latent and pixels a side that become one."""
        return self.channels, self.patch_px

    def flops(self, size_px: int) -> float:
        """Operations of encoding a square image of `size_px`."""
        return 2.0 * 3 * size_px**2 * self.channels


@dataclass(frozen=True)
class PatchPca:
    """Encoder and decoder: z = (patch - mean) @ basis / scale, with patches in [-1, 1]."""

    patch_px: int
    mean: Float64[Tensor, " d"]
    basis: Float64[Tensor, "d c"]
    scale: Float64[Tensor, " c"]

    def latent_shape(self, size_px: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the latent of a square image."""
        if size_px % self.patch_px:
            raise ConfigError(f"size_px {size_px} is not a multiple of the VAE's patch_px {self.patch_px}")
        return self.basis.shape[1], size_px // self.patch_px, size_px // self.patch_px

    def encode(self, images: UInt8[Tensor, "b H W 3"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Mean and standard deviation (zero: the code is exact) of each latent, on the CPU."""
        # float64: a sum of 48 terms then rounds to the same float16 whatever the batch size.
        patches = _patches(images.cpu(), self.patch_px).double() / 127.5 - 1
        latents = ((patches - self.mean) @ self.basis / self.scale).float().movedim(-1, 1).contiguous()
        return latents, torch.zeros_like(latents)

    def decode(self, latents: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b H W 3"]:
        """Images of latents, clamped to what a pixel can hold."""
        patches = (latents.cpu().double().movedim(1, -1) * self.scale) @ self.basis.T + self.mean
        pixels = ((patches + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return rearrange(
            pixels, "b h w (row column c) -> b (h row) (w column) c", row=self.patch_px, column=self.patch_px, c=3
        )

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name."""
        return {"basis": self.basis, "mean": self.mean, "scale": self.scale}


@dataclass(frozen=True)
class PatchFit:
    """The fitted autoencoder and how much of the patches' variance it keeps."""

    vae: PatchPca
    explained: float
    patches: int


def fit(batches: Iterable[UInt8[Tensor, "b H W 3"]], config: PatchPcaConfig) -> PatchFit:
    """Principal components of all patches; the same for any order, batching and number of threads.

    Pixels are integers, so their sums and products are exact in float64 (below 2**53) until the covariance is formed.
    """
    d = 3 * config.patch_px**2
    total, products, count = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64), 0
    for images in batches:
        flat = _patches(images, config.patch_px).reshape(-1, d).double()
        total, products, count = total + flat.sum(0), products + flat.T @ flat, count + len(flat)
    if count == 0:
        raise ConfigError("patch_pca: there are no images to fit; the kept set is empty")
    mean = total / count
    covariance = (products / count - torch.outer(mean, mean)) / 127.5**2
    return _components(mean / 127.5 - 1, covariance, count, config)


def _components(mean: Tensor, covariance: Tensor, count: int, config: PatchPcaConfig) -> PatchFit:
    variances, vectors = torch.linalg.eigh(covariance)
    order = torch.argsort(variances, descending=True)[: config.channels]
    kept, basis = variances[order].clamp(min=0), vectors[:, order]
    # An eigenvector's sign is arbitrary: the largest entry is made positive.
    largest = basis.abs().argmax(0)
    basis = basis * torch.where(basis[largest, torch.arange(len(largest))] < 0, -1.0, 1.0)
    # Channels without variance (flat images) keep a finite scale.
    floored = kept.clamp(min=max(float(kept[0]) * 1e-6, 1e-12))
    scale = floored ** (config.whitening / 2)
    scale = scale * torch.sqrt((floored / scale**2).mean())
    vae = PatchPca(config.patch_px, mean, basis.contiguous(), scale)
    whole = float(covariance.trace())
    return PatchFit(vae, float(kept.sum()) / whole if whole > 0 else 1.0, count)


def _patches(images: UInt8[Tensor, "b H W 3"], patch_px: int) -> UInt8[Tensor, "b h w d"]:
    return rearrange(images, "b (h row) (w column) c -> b h w (row column c)", row=patch_px, column=patch_px)
