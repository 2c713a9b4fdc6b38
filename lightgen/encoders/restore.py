"""The encoders that made a set of features, so that later stages encode prompts and decode samples with the same."""

import json

from pydantic import JsonValue

from lightgen.config import Config
from lightgen.encoders.text import TextEncoder, text_of_identity
from lightgen.encoders.vae import Vae, load_vae
from lightgen.storage.store import Store
from lightgen.storage.version import Version

FILE = "encoders.json"


class Encoders(Config):
    """`encoders.json` of features: what made them. The VAE is named by the content of its version."""

    size_px: int
    latent_shape: tuple[int, int, int]
    text_dim: int
    vae: str
    text: dict[str, JsonValue]

    def file(self) -> bytes:
        """The bytes that are sealed."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True).encode()


def read_encoders(features: Version) -> Encoders:
    """What `encoders.json` of a features version says."""
    return Encoders.model_validate_json(features.file(FILE).read_text(encoding="utf-8"))


def load_encoders(encoders: Encoders, store: Store, device: str) -> tuple[Vae, TextEncoder]:
    """VAE and text encoder, ready to use. Raises RefNotFound, ModelError where weights are not found."""
    return load_vae_of(encoders, store, device), text_of_identity(encoders.text, store).open(device)


def load_vae_of(encoders: Encoders, store: Store, device: str) -> Vae:
    """The VAE alone: a text encoder may be ten times its size."""
    return load_vae(store.with_content("vae", encoders.vae), store, device)
