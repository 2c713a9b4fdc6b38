"""The encoders that made a set of features, so that later stages encode prompts and decode samples with the same."""

import json

from pydantic import JsonValue

from lightgen.config import Config
from lightgen.encoders.text import TextEncoder, text_of_identity
from lightgen.encoders.vae import Vae, load_vae
from lightgen.storage.store import Store
from lightgen.storage.version import Version

IMAGE_FILE, TEXT_FILE = "image_encoder.json", "text_encoder.json"


class _Described(Config):
    """Settings that a version has as one of its content files."""

    def file(self) -> bytes:
        """The bytes that are sealed."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True).encode()


class ImageEncoding(_Described):
    """`image_encoder.json` of features: what made the latents. The VAE is named by the content of its version."""

    size_px: int
    latent_shape: tuple[int, int, int]
    vae: str


class TextEncoding(_Described):
    """`text_encoder.json` of texts: what made them."""

    text_dim: int
    text: dict[str, JsonValue]


class Encoders(_Described):
    """Both, as a checkpoint has them: what its student was trained with."""

    size_px: int
    latent_shape: tuple[int, int, int]
    text_dim: int
    vae: str
    text: dict[str, JsonValue]

    @staticmethod
    def of(image: ImageEncoding, text: TextEncoding) -> "Encoders":
        """The encoders of features and of the texts that belong to them."""
        return Encoders(**image.model_dump(), **text.model_dump())

    @property
    def image(self) -> ImageEncoding:
        """What makes latents."""
        return ImageEncoding(size_px=self.size_px, latent_shape=self.latent_shape, vae=self.vae)


def read_image_encoding(features: Version) -> ImageEncoding:
    """What made the latents of a FEATURES version."""
    return ImageEncoding.model_validate_json(features.file(IMAGE_FILE).read_text(encoding="utf-8"))


def read_text_encoding(texts: Version) -> TextEncoding:
    """What made a TEXTS version."""
    return TextEncoding.model_validate_json(texts.file(TEXT_FILE).read_text(encoding="utf-8"))


def load_encoders(encoders: Encoders, store: Store, device: str) -> tuple[Vae, TextEncoder]:
    """VAE and text encoder, ready to use. Raises RefNotFound, ModelError where weights are not found."""
    return load_vae_of(encoders, store, device), text_of_identity(encoders.text, store).open(device)


def load_vae_of(encoders: Encoders | ImageEncoding, store: Store, device: str) -> Vae:
    """The VAE alone: a text encoder may be ten times its size."""
    return load_vae(store.with_content("vae", encoders.vae), store, device)
