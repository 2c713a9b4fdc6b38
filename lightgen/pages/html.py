"""Self-contained HTML: templates with everything escaped, pictures as data URIs, no address outside.

The one script is that of the search box. Its digest stands in the page's policy, so that a browser runs no other.
"""

import base64
import hashlib
import io
import re
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

MIMES = {"png": "image/png", "webp": "image/webp", "jpg": "image/jpeg", "jpeg": "image/jpeg"}
# ANSI escapes and other control characters are shown as what they are, never sent to a browser or terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: object) -> str:
    """`text` with control characters spelled out, so that a caption cannot hide or turn what stands beside it."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text))


def data_uri(data: bytes, extension: str) -> str:
    """The picture itself as an address."""
    return f"data:{MIMES[extension]};base64,{base64.b64encode(data).decode()}"


def picture(pixels: np.ndarray, least_px: int = 0, most_px: int = 256, quality: int = 88) -> str:
    """Data URI of uint8 [H, W, 3] as WebP; small ones are enlarged by a whole factor, large ones shrunk."""
    factor = max(1, -(-least_px // pixels.shape[1]))
    enlarged = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    image = Image.fromarray(enlarged)
    image.thumbnail((most_px, most_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality)
    return data_uri(buffer.getvalue(), "webp")


def spoken(seconds: float) -> str:
    """`75.2` as `1 min 15 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def spoken_bytes(count: float) -> str:
    """`2048` as `2.0 kB`, in powers of ten."""
    if count < 1000:
        return f"{count:.0f} B"
    power = 1 + (count >= 999_950) + (count >= 999_950_000)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


def render(template: str, **values: Any) -> str:
    """One page; every value is escaped, but what is Markup already."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lightgen.pages"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_finalize,
    )  # fmt: skip
    environment.globals["find"] = _find_script()
    environment.filters |= {"spoken": spoken, "bytes": spoken_bytes, "thousands": lambda number: f"{number:,}"}
    return environment


def _find_script() -> dict[str, Markup]:
    """The script of the search box, and its digest as a policy names it."""
    text = (resources.files("lightgen.pages") / "templates/find.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": Markup(text), "hash": Markup(f"'sha256-{digest}'")}


def _finalize(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
