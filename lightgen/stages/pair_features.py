"""Preference pairs as training reads them: both images take the way through crop and VAE that stage encode takes."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lightgen.encoders.crop import read_square
from lightgen.encoders.text import TextEncoder
from lightgen.encoders.vae import Vae
from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.storage.pixels import BadImage
from lightgen.storage.version import Version
from lightgen.training.data import FeatureSet, memory_features

ENCODE_BATCH = 256


def read_pairs(pairs: Version, vae: Vae, text: TextEncoder, size_px: int) -> FeatureSet:
    """Features whose latents hold the winner and the loser of each pair."""
    captions = {row["id"]: row["caption"] for row in pairs.table(columns=["id", "caption"]).to_pylist()}
    if not captions:
        raise ConfigError(f"{pairs.ref} holds no pairs; draw more losers or loosen the judge in stage pair")
    samples = [sample for shard in range(pairs.n_shards) for sample in pairs.samples(shard)]
    texts = text.encode([captions[key] for key, _ in samples])
    sides = [
        _latents([_square(key, members, side, size_px) for key, members in samples], vae)
        for side in ("winner", "loser")
    ]
    return memory_features([key for key, _ in samples], torch.stack(sides, dim=1), texts)


def _square(key: str, members: dict[str, bytes], side: str, size_px: int) -> UInt8[Tensor, "size size 3"]:
    """The square that stage encode would see: both sides take this one way."""
    image = read_square(next(data for name, data in members.items() if name.startswith(f"{side}.")), size_px)
    if isinstance(image, BadImage):
        raise StoreCorrupt(f"the {side} of pair {key} cannot be used ({image.detail}); run stage pair again")
    return image


def _latents(images: list[Tensor], vae: Vae) -> Float[Tensor, "n c h w"]:
    """Means of the posterior, as the features keep them."""
    chunks = (images[first : first + ENCODE_BATCH] for first in range(0, len(images), ENCODE_BATCH))
    return torch.cat([vae.encode(torch.stack(chunk))[0].cpu() for chunk in chunks]).half()
