"""Images as bytes and as pixels: encode once, decode behind guards.

Metadata that is broken costs no pixels. What else is wrong with an image is a value, `BadImage`, with one of these
reasons:

    empty_file, too_large, not_an_image, image_format, image_animated, image_too_many_pixels, image_too_small,
    image_aspect, image_metadata_bomb, image_mode, image_truncated
"""

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image, ImageFile, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

ImageFormat = Literal["png", "webp", "jpg"]
Pixels = UInt8[np.ndarray, "height width 3"]
Opaque = Callable[[Image.Image], Image.Image]  # what an image with transparent parts is seen over

PLUGINS: dict[ImageFormat, type[ImageFile.ImageFile]] = {
    "png": PngImageFile,
    "jpg": JpegImageFile,
    "webp": WebPImageFile,
}
# What begins like this is an image, of a kind that no stage opens: each further parser is one more to attack.
OTHER_IMAGES = (
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"8BPS", "PSD"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"<svg", "SVG"),
)
# Chunks that decide the pixels of a PNG; all others are metadata, or further frames.
PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
CHECKS, CHECK_GREYS = 24, (212, 244)
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # of EXIF: these exchange width and height
# PIL's parsers raise all of these on hostile bytes.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    MemoryError,
)


@dataclass(frozen=True)
class Limits:
    """What an image may be at most before its pixels are touched."""

    bytes: int = 32 << 20
    pixels: int = 64 << 20
    side_px: int = 16_384
    min_side_px: int = 8
    aspect: float = 20.0


LIMITS = Limits()


@dataclass(frozen=True)
class BadImage:
    """Why bytes are not an image to work with."""

    reason: str
    detail: str


def encode_image(pixels: Pixels, format: ImageFormat, quality: int = 92) -> bytes:
    """The bytes of a file without metadata; `quality` is for the lossy formats, and `png` is exact."""
    image, out = Image.fromarray(pixels), io.BytesIO()
    if format == "png":
        image.save(out, "PNG", compress_level=6)
    elif format == "webp":
        image.save(out, "WEBP", quality=quality, method=4)
    else:
        # Full chroma resolution: halved chroma smears the edges of saturated colours.
        image.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def decode_image(data: bytes, limits: Limits = LIMITS) -> Pixels | BadImage:
    """8-bit RGB, upright, transparent parts over white; or why not."""
    return _decoded(data, limits, _over_white)


def decode_over_checks(data: bytes, limits: Limits = LIMITS) -> Pixels | BadImage:
    """As `decode_image`, for people to look at: transparent parts over a checkerboard, so that they are seen."""
    return _decoded(data, limits, _over_checks)


def _decoded(data: bytes, limits: Limits, opaque: Opaque) -> Pixels | BadImage:
    if not data:
        return BadImage("empty_file", "0 bytes")
    if len(data) > limits.bytes:
        return BadImage("too_large", f"{len(data)} bytes > {limits.bytes}")
    format = sniff(data)
    if format is None:
        return _refused_format(data)
    try:
        return _decode(data, format, limits, opaque)
    except BROKEN as error:
        bad = _explain(error)
    bare = _decode_bare_png(data, limits, opaque) if (format, bad.reason) == ("png", "image_truncated") else None
    return bad if bare is None else bare


def check_image(data: bytes, limits: Limits = LIMITS) -> tuple[int, int] | BadImage:
    """Height and width of what `decode_image` would give, or what it would say; for whoever needs no pixels.

    Of a JPEG every byte is read, but only the brightness is computed, at an eighth of the size: half the time.
    """
    if len(data) <= limits.bytes and sniff(data) == "jpg":
        try:
            if (sides := _glance(data, limits)) is not None:
                return sides
        except BROKEN:
            pass  # what is wrong is said below
    pixels = decode_image(data, limits)
    return pixels if isinstance(pixels, BadImage) else (pixels.shape[0], pixels.shape[1])


def _glance(data: bytes, limits: Limits) -> tuple[int, int] | None:
    """Height and width of a JPEG that is whole; None where there is more to say of it."""
    with JpegImageFile(io.BytesIO(data)) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
        if turned or image.mode not in ("L", "RGB") or _check_size(image.size, limits):
            return None
        image.draft("L", (width // 8, height // 8))
        image.load()
        return height, width


def sniff(data: bytes) -> ImageFormat | None:
    """The format by its first bytes; names and headers of transport are not trusted."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _decode(data: bytes, format: ImageFormat, limits: Limits, opaque: Opaque) -> Pixels | BadImage:
    if format == "webp" and (bad := _check_size(_webp_canvas(data), limits)):
        return bad  # PIL reserves the whole canvas of a WebP already when it opens it
    # Not Image.open: that only warns up to 179 Mpx, and tries other parsers.
    with PLUGINS[format](io.BytesIO(data)) as image:
        if bad := _check_size(image.size, limits):
            return bad
        if getattr(image, "n_frames", 1) != 1:
            return BadImage("image_animated", f"{getattr(image, 'n_frames', 0)} frames")
        image.load()
        return _as_rgb(image, opaque)


def _decode_bare_png(data: bytes, limits: Limits, opaque: Opaque) -> Pixels | BadImage | None:
    """The picture without what only speaks about it: PIL gives up where a chunk of metadata is broken. Or None."""
    for kept in (PNG_PIXELS | {b"eXIf"}, PNG_PIXELS):
        try:
            return _decode(b"".join([data[:8], *_chunks(data, kept)]), "png", limits, opaque)
        except BROKEN:
            continue
    return None


def _chunks(data: bytes, kept: set[bytes]) -> Iterator[bytes]:
    """The chunks of a PNG whose type is among `kept`, each with its length and checksum."""
    at = 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in kept:
            yield data[at:end]
        at = end


def _check_size(size: tuple[int, int], limits: Limits) -> BadImage | None:
    width, height = size
    shown, short, long = f"{width} x {height} px", min(size), max(size)
    if width * height > limits.pixels:
        return BadImage("image_too_many_pixels", f"{width * height} > {limits.pixels} ({shown})")
    if long > limits.side_px:
        return BadImage("image_too_many_pixels", f"{shown}: a side > {limits.side_px}")
    if long > limits.aspect * short:
        return BadImage("image_aspect", f"{shown}: sides differ more than {limits.aspect:g} times")
    if short < limits.min_side_px:
        return BadImage("image_too_small", f"{shown}: a side < {limits.min_side_px}")
    return None


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Width and height by the first chunk. Raises ValueError."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise ValueError("WebP ends in its header")
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise ValueError(f"WebP begins with chunk {kind!r}")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is where that cannot be read: metadata never costs pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except BROKEN:
        return image


def _as_rgb(image: Image.Image, opaque: Opaque) -> Pixels | BadImage:
    image = _upright(image)
    if image.mode.startswith("I"):
        # PIL would clip 16-bit grey at 255, not scale it.
        grey = np.asarray(image, dtype=np.int64).clip(0, 65535) >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = opaque(image.convert("RGBA"))
    pixels = np.array(image.convert("RGB"))
    return pixels if pixels.ndim == 3 and pixels.shape[2] == 3 else BadImage("image_mode", f"mode {image.mode}")


def _over_white(image: Image.Image) -> Image.Image:
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _over_checks(image: Image.Image) -> Image.Image:
    """Over squares of two greys, CHECKS of them along the longer side."""
    side = max(1, -(-max(image.size) // CHECKS))
    across, down = (np.arange(length) // side % 2 for length in image.size)
    greys = np.where(down[:, None] ^ across, *CHECK_GREYS).astype(np.uint8)
    return Image.alpha_composite(Image.fromarray(greys).convert("RGBA"), image)


def _refused_format(data: bytes) -> BadImage:
    head = data[:512].lstrip()
    name = next((name for magic, name in OTHER_IMAGES if head.startswith(magic) or data.startswith(magic)), None)
    if name is None and head.startswith(b"<?xml") and b"<svg" in data[:4096]:
        name = "SVG"
    if name == "GIF" and _is_animated_gif(data):
        return BadImage("image_animated", "GIF of several frames")
    if name is None:
        return BadImage("not_an_image", f"begins with {data[:16]!r}")
    return BadImage("image_format", f"{name}; allowed are JPEG, PNG and WebP")


def _is_animated_gif(data: bytes) -> bool:
    try:
        with GifImagePlugin.GifImageFile(io.BytesIO(data)) as image:
            return image.is_animated
    except BROKEN:
        return False


def _explain(error: Exception) -> BadImage:
    text = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, ValueError) and "Decompressed data too large" in str(error):
        return BadImage("image_metadata_bomb", text)
    if isinstance(error, ValueError) and "conversion" in str(error):
        return BadImage("image_mode", text)
    return BadImage("image_truncated", text)
