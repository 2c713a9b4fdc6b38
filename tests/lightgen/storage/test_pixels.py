"""Every bad image of design/storage.md 8.2 (rows 15 to 23) gives its reason; good ones come out as they went in."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightgen.storage.pixels import LIMITS, BadImage, check_image, decode_image, decode_over_checks, encode_image, sniff


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth gradient with a saturated patch."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1).astype(np.uint8)
    image[5:15, 5:25] = (255, 0, 0)
    return image


def saved(image: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    """A PNG whose header claims a size; its pixels are few."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def webp_canvas(width: int, height: int) -> bytes:
    body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    payload = b"WEBPVP8X" + struct.pack("<I", 10) + body
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


def frames(format: str, n: int = 5) -> bytes:
    images = [Image.fromarray(np.full((30, 30, 3), 10 * i, np.uint8)) for i in range(n)]
    return saved(images[0], format, save_all=True, append_images=images[1:])


def zip_bomb_text() -> bytes:
    return chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(200 << 20), 9))


def reason(data: bytes) -> str:
    outcome = decode_image(data)
    assert isinstance(outcome, BadImage), "was accepted"
    assert outcome.detail
    return outcome.reason


@pytest.mark.parametrize("format", ["png", "webp", "jpg"])
def test_round_trip(format) -> None:
    image = picture()
    data = encode_image(image, format, 95)
    back = decode_image(data)
    assert sniff(data) == format
    assert isinstance(back, np.ndarray)
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).mean() < (0.1 if format == "png" else 6)
    if format == "png":
        assert np.array_equal(back, image)


def test_encoding_is_deterministic_and_quality_counts() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    assert encode_image(image, "jpg", 90) == encode_image(image, "jpg", 90)
    assert len(encode_image(image, "jpg", 50)) < len(encode_image(image, "jpg", 95))
    assert len(encode_image(image, "webp", 50)) < len(encode_image(image, "webp", 95))


def test_row_15_html_named_jpg() -> None:
    assert reason(b"<!DOCTYPE html><html><body>404</body></html>") == "not_an_image"


@pytest.mark.parametrize("side", [20_000, 13_000])
def test_rows_16_and_17_many_pixels(side: int) -> None:
    outcome = decode_image(png(side, side))
    assert outcome == BadImage("image_too_many_pixels", f"{side * side} > 67108864 ({side} x {side} px)")


def test_many_pixels_in_webp_and_jpeg_are_refused_by_their_header() -> None:
    assert reason(webp_canvas(16_000, 16_000)) == "image_too_many_pixels"
    jpeg = bytearray(saved(Image.new("RGB", (64, 64)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    began = time.thread_time()
    assert reason(bytes(jpeg)) == "image_too_many_pixels"
    assert time.thread_time() - began < 1


def test_a_side_may_not_be_endless() -> None:
    assert reason(png(17_000, 3_000)) == "image_too_many_pixels"


def test_row_18_truncated_and_empty() -> None:
    whole = encode_image(picture(), "jpg")
    assert reason(whole[: len(whole) // 2]) == "image_truncated"
    assert reason(encode_image(picture(), "png")[:-200]) == "image_truncated"
    assert reason(encode_image(picture(), "webp")[:-20]) == "image_truncated"
    assert reason(b"") == "empty_file"


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
        b"8BPS\0\1" + bytes(40),
        b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
        saved(Image.new("RGB", (20, 20)), "TIFF"),
        saved(Image.new("RGB", (20, 20)), "BMP"),
        saved(Image.new("RGB", (20, 20)), "GIF"),
    ],
    ids=["eps", "psd", "svg", "tiff", "bmp", "gif"],
)
def test_row_19_other_formats(data: bytes) -> None:
    assert reason(data) == "image_format"


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_row_20_animations(format: str) -> None:
    assert reason(frames(format)) == "image_animated"


@pytest.mark.parametrize("place", ["before", "after"])
def test_row_21_metadata_bomb(place: str) -> None:
    bomb = zip_bomb_text()
    assert len(bomb) < 1 << 20
    good = saved(Image.fromarray(picture()), "PNG")
    at = good.index(b"IDAT") - 4 if place == "before" else good.index(b"IEND") - 4
    assert reason(good[:at] + bomb + good[at:]) == "image_metadata_bomb"


def test_row_22_modes_are_converted() -> None:
    image = Image.fromarray(picture())
    cmyk = decode_image(saved(image.convert("CMYK"), "JPEG", quality=95))
    assert isinstance(cmyk, np.ndarray)
    assert np.abs(cmyk.astype(int) - picture()).mean() < 6
    deep = (np.arange(40 * 60).reshape(40, 60) * 27).astype(np.uint16)
    grey = decode_image(saved(Image.fromarray(deep), "PNG"))
    assert isinstance(grey, np.ndarray)
    assert np.array_equal(grey[..., 1], deep >> 8)


def test_row_22_transparency_lies_over_white() -> None:
    image = Image.new("RGBA", (20, 10), (200, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 10, 10))
    for data in (saved(image, "PNG"), saved(image.quantize(8), "PNG"), saved(image, "WEBP", lossless=True)):
        pixels = decode_image(data)
        assert isinstance(pixels, np.ndarray)
        assert pixels[5, 15].tolist() == [255, 255, 255]
        assert pixels[5, 5].tolist() == [0, 0, 255]


def see_through(mode: str) -> Image.Image:
    """Red on the left, nothing on the right, which was black before it was made transparent."""
    if mode == "P":
        image = Image.new("P", (40, 40), 1)
        image.putpalette([200, 0, 0, 0, 0, 0])
        image.paste(0, (0, 0, 20, 40))
        image.info["transparency"] = 1
        return image
    ink, nothing = {"RGBA": ((200, 0, 0, 255), (0, 0, 0, 0)), "LA": ((90, 255), (0, 0))}[mode]
    image = Image.new(mode, (40, 40), nothing)
    image.paste(ink, (0, 0, 20, 40))
    return image


@pytest.mark.parametrize(("mode", "format"), [("RGBA", "PNG"), ("RGBA", "WEBP"), ("LA", "PNG"), ("P", "PNG")])
def test_people_see_transparent_parts_over_a_checkerboard(mode: str, format: str) -> None:
    data = saved(see_through(mode), format, **({"lossless": True} if format == "WEBP" else {}))
    seen, given = decode_over_checks(data), decode_image(data)
    assert isinstance(seen, np.ndarray)
    assert isinstance(given, np.ndarray)
    assert np.array_equal(seen[:, :20], given[:, :20])
    assert set(seen[:, 20:].ravel().tolist()) == {212, 244}
    assert (given[:, 20:] == 255).all(), "what models see"


def test_of_pictures_without_transparent_parts_people_see_every_pixel() -> None:
    data = encode_image(picture(), "png")
    assert np.array_equal(decode_over_checks(data), picture())
    assert decode_over_checks(b"<html>") == decode_image(b"<html>")


def test_row_22_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(picture())
    turned = decode_image(saved(image, "PNG", exif=exif))
    assert isinstance(turned, np.ndarray)
    assert np.array_equal(turned, np.rot90(picture(), -1))


BROKEN_EXIF = [b"x", b"garbage" * 9, b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0"]


def with_chunk(kind: bytes, data: bytes, place: bytes) -> bytes:
    """The picture as PNG with one more chunk, before that of type `place`."""
    whole = saved(Image.fromarray(picture()), "PNG")
    at = whole.index(place) - 4
    return whole[:at] + chunk(kind, data) + whole[at:]


@pytest.mark.parametrize("exif", BROKEN_EXIF)
@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_broken_exif_costs_no_pixels(format: str, exif: bytes) -> None:
    image = Image.fromarray(picture())
    options = {"lossless": True} if format == "WEBP" else {}
    with_exif, without = saved(image, format, exif=exif, **options), saved(image, format, **options)
    assert len(with_exif) > len(without)
    assert np.array_equal(decode_image(with_exif), decode_image(without))


@pytest.mark.parametrize("place", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"gAMA", b""), (b"pHYs", b"1"), (b"cHRM", b"1"), (b"sRGB", b""), (b"iCCP", b"abc"), (b"zTXt", b"a\0\1zz"),
        (b"tEXt", b"Raw profile type exif\0nonsense"), (b"acTL", b"1"), (b"eXIf", b"garbage"),
    ],
)  # fmt: skip
def test_other_broken_metadata_of_a_png_costs_no_pixels(kind: bytes, data: bytes, place: bytes) -> None:
    assert np.array_equal(decode_image(with_chunk(kind, data, place)), picture())


def test_a_picture_is_turned_though_other_metadata_is_broken() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(Image.fromarray(picture()), "PNG", exif=exif)
    at = turned.index(b"IDAT") - 4
    assert np.array_equal(decode_image(turned[:at] + chunk(b"gAMA", b"") + turned[at:]), np.rot90(picture(), -1))


@settings(max_examples=60)
@given(
    kind=st.sampled_from([b"eXIf", b"tEXt", b"iTXt", b"zTXt", b"iCCP", b"gAMA", b"tIME", b"sBIT", b"hIST", b"prVt"]),
    data=st.binary(max_size=60),
    place=st.sampled_from([b"IDAT", b"IEND"]),
)
def test_no_metadata_of_a_png_costs_pixels(kind: bytes, data: bytes, place: bytes) -> None:
    assert np.array_equal(decode_image(with_chunk(kind, data, place)), picture())


def test_null_control_broken_pixels_are_refused_with_and_without_metadata() -> None:
    whole = with_chunk(b"gAMA", b"", b"IDAT")
    assert reason(whole[: len(whole) // 2]) == "image_truncated"


def test_row_23_shapes() -> None:
    assert reason(png(1, 1)) == "image_too_small"
    assert reason(png(1, 16_000)) == "image_aspect"


def test_too_many_bytes() -> None:
    assert reason(encode_image(picture(), "png") + bytes(LIMITS.bytes)) == "too_large"


@settings(max_examples=150)
@given(st.data())
def test_damaged_files_are_values_not_exceptions(data) -> None:
    whole = bytearray(encode_image(picture(24, 20), data.draw(st.sampled_from(["png", "webp", "jpg"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    outcome = decode_image(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    assert isinstance(outcome, BadImage) or (outcome.dtype == np.uint8 and outcome.ndim == 3)


# --- whether it is one, without pixels --------------------------------------------------------------------------------


def both(data: bytes):
    """What `check_image` says, and what it should say."""
    pixels = decode_image(data)
    return check_image(data), pixels if isinstance(pixels, BadImage) else pixels.shape[:2]


def rotated(orientation: object) -> bytes:
    image = Image.fromarray(picture())
    exif = image.getexif()
    exif[0x0112] = orientation
    return saved(image, "JPEG", exif=exif)


@pytest.mark.parametrize(
    "data",
    [
        *(encode_image(picture(), format) for format in ("jpg", "png", "webp")),
        *(rotated(number) for number in (1, 3, 5, 6, 8, 9)),
        saved(Image.new("CMYK", (80, 70)), "JPEG"),
        saved(Image.new("L", (80, 70)), "JPEG"),
        saved(Image.fromarray(picture(75, 131)), "JPEG", progressive=True, subsampling=2),
        saved(Image.new("RGB", (6, 70)), "JPEG"),
        saved(Image.new("RGB", (2000, 20)), "JPEG"),
        b"",
        b"<html>",
        png(20_000, 20_000),
    ],
)
def test_a_check_says_what_decoding_would(data: bytes) -> None:
    found, expected = both(data)
    assert found == expected


@settings(max_examples=300)
@given(st.data())
def test_a_check_of_damaged_files_says_what_decoding_would(data: st.DataObject) -> None:
    whole = bytearray(saved(Image.fromarray(picture(48, 64)), "JPEG", progressive=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(3, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(3, len(whole)))
    found, expected = both(bytes(whole[:cut]))
    assert found == expected
