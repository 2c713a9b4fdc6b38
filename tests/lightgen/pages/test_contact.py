"""The grid fits its budget, shows every model in its row, and marks right and wrong."""

import io

import numpy as np
from PIL import Image

from lightgen.pages.contact import CELL, EDGE, GAP, LEFT, TOP, Cell, Column, contact_sheet


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def test_cells_lie_where_model_and_prompt_say():
    red, blue = np.full((60, 60, 3), (200, 0, 0), np.uint8), np.full((30, 30, 3), (0, 0, 200), np.uint8)
    columns = [
        Column("a <b>red</b>\x1b[0m", {"one": Cell(red, True), "two": None}),
        Column("x", {"two": Cell(blue, False)}),
    ]
    sheet = opened(contact_sheet(columns, ["one", "two"]))
    x, y = EDGE + LEFT, EDGE + TOP
    assert tuple(sheet[y + 30, x + 30]) == (200, 0, 0)
    assert tuple(sheet[y + CELL + GAP + 30, x + CELL + GAP + 30]) == (0, 0, 200)
    green, brick = sheet[y + CELL - 17, x + CELL - 12], sheet[y + 2 * CELL + GAP - 17, x + 2 * CELL + GAP - 12]
    assert green[1] > green[0]
    assert brick[0] > brick[1]
    assert (sheet[y + CELL + GAP + 60, x + 60] == 255).all(), "nothing was drawn there"


def test_it_never_exceeds_its_budget():
    noise = np.random.default_rng(0).integers(0, 256, (CELL, CELL, 3), np.uint8)
    columns = [Column(f"noise {number}", {"one": Cell(noise, True)}) for number in range(20)]
    data = contact_sheet(columns, ["one"], max_bytes=100_000)
    assert 10_000 < len(data) <= 100_000
    assert opened(data).shape[1] > 2 * CELL
