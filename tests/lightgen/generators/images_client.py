"""A client of the server on loopback, and what it should draw; imported by path."""

import base64
from typing import Any

import numpy as np

from lightgen.fetch.loopback import drawn
from lightgen.generators.images_api import ImagesApiConfig, ImagesApiGenerator
from lightgen.http import Timing
from lightgen.storage.pixels import decode_image
from tests.servers.images import ImagesServer

KEY = "sk-proj-abcdefghij0123456789"
PROMPTS = [f"a red circle and {number} things" for number in range(6)]
SEEDS = list(range(6))


def settings(server: ImagesServer, **changes: Any) -> ImagesApiConfig:
    base = {"model": "m", "sizes": ("64x64",)}
    return ImagesApiConfig(url=server.api, **{**base, **changes})


def client(server: ImagesServer, **changes: Any) -> ImagesApiGenerator:
    return ImagesApiGenerator(settings(server, **changes), Timing(sleep=lambda _: None))


def expected(prompt: str, size: str = "64x64") -> np.ndarray:
    pixels = decode_image(base64.b64decode(drawn({"prompt": prompt, "size": size})["data"][0]["b64_json"]))
    assert isinstance(pixels, np.ndarray)
    return pixels
