"""Pages escape what captions bring along, and hold everything they show."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from lightgen.pages.html import data_uri, picture, spoken, spoken_bytes, visible


def test_control_characters_are_spelled_out_and_text_is_kept():
    assert visible("\x1b[31mred\x1b[0m\r") == "\\x1b[31mred\\x1b[0m\\x0d"
    assert visible("abc\u202egnp") == "abc\\x202egnp"
    assert visible("line\nof {0} %s 赤い円") == "line\nof {0} %s 赤い円"


def test_a_picture_is_enlarged_by_whole_factors():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4, :, 0] = 250
    head, data = picture(pixels, least_px=20, quality=100).split(",")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (head, image.size) == ("data:image/webp;base64", (24, 24))
        shown = np.asarray(image.convert("RGB"))
    assert shown[:11, :, 0].min() > 200
    assert shown[13:, :, 0].max() < 50


def test_a_large_picture_is_shrunk():
    data = picture(np.zeros((512, 1024, 3), np.uint8)).split(",")[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == (256, 128)


def test_a_data_uri_is_the_bytes():
    assert base64.b64decode(data_uri(b"abc", "png").removeprefix("data:image/png;base64,")) == b"abc"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (75.2, "1 min 15 s"), (4000, "1 h 06 min")]
)
def test_durations(seconds, said):
    assert spoken(seconds) == said


@pytest.mark.parametrize(("count", "said"), [(0, "0 B"), (999, "999 B"), (2048, "2.0 kB"), (3e12, "3000.0 GB")])
def test_bytes(count, said):
    assert spoken_bytes(count) == said
