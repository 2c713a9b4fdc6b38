"""The encoders that made a set of features, so that later stages encode prompts and decode samples with the same."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from lightgen.encoders.t5 import T5Config
from lightgen.encoders.text import TextConfig, TextEncoder, load_text
from lightgen.encoders.vae import Vae, load_vae
from lightgen.encoders.words import WordsConfig
from lightgen.errors import StoreCorrupt
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef

TEXT_CONFIG: TypeAdapter[WordsConfig | T5Config] = TypeAdapter(TextConfig)


@dataclass(frozen=True)
class Encoders:
    """`encoders.json` of a features version."""

    size_px: int
    latent_shape: tuple[int, int, int]
    text_config: WordsConfig | T5Config
    text_dim: int
    vae: ArtifactRef


def describe_encoders(
    size_px: int,
    latent_shape: tuple[int, int, int],
    text_config: WordsConfig | T5Config,
    text: TextEncoder,
    vae: Version,
) -> bytes:
    """`encoders.json`: names the VAE's version without a place, so that a store can be moved."""
    described = {
        "size_px": size_px,
        "latent_shape": list(latent_shape),
        "vae": {"version": vae.ref.version, **json.loads(vae.file("vae.json").read_text(encoding="utf-8"))},
        "text": {"config": text_config.model_dump(mode="json"), "dim": text.dim, "identity": text.identity},
    }
    return json.dumps(described, indent=1, sort_keys=True).encode()


def read_encoders(features: Version) -> Encoders:
    """What `encoders.json` of a features version says; raises StoreCorrupt where its VAE is not among the parents."""
    described: dict[str, Any] = json.loads(features.file("encoders.json").read_text(encoding="utf-8"))
    named = described["vae"]["version"]
    vae = [parent for parent in features.parents if parent.kind == "vae" and parent.version == named]
    if not vae:
        raise StoreCorrupt(f"{features.ref}: encoders.json names vae@{named[:12]}, which is not a parent")
    channels, rows, columns = described["latent_shape"]
    text = described["text"]
    return Encoders(
        described["size_px"],
        (channels, rows, columns),
        TEXT_CONFIG.validate_python(text["config"]),
        text["dim"],
        vae[0],
    )


def load_encoders(features: Version, store: Store, device: str) -> tuple[Vae, TextEncoder]:
    """VAE and text encoder of a features version, ready to use."""
    return load_vae_of(features, store, device), load_text(read_encoders(features).text_config, device)


def load_vae_of(features: Version, store: Store, device: str) -> Vae:
    """The VAE of a features version alone: a text encoder may be ten times its size."""
    return load_vae(store.open(read_encoders(features).vae), device)
