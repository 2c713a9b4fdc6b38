"""`grid.png`: prompts across, models down, each picture with its verdict; small enough for a README."""

import io
import textwrap
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lightgen.pages.html import visible

CELL, GAP, LEFT, TOP, EDGE = 128, 10, 104, 74, 16
PAPER, INK, SOFT, RIGHT, WRONG = "#ffffff", "#1f2023", "#6a6c72", "#2f7d5b", "#b4473c"
CAPTION_LINES, CAPTION_CHARACTERS = 4, 20


@dataclass(frozen=True)
class Cell:
    """Pixels uint8 [H, W, 3] and whether they are right."""

    pixels: np.ndarray
    correct: bool


@dataclass(frozen=True)
class Column:
    """One prompt and what each model made of it."""

    caption: str
    cells: dict[str, Cell | None]


def contact_sheet(columns: list[Column], models: list[str], max_bytes: int = 300_000) -> bytes:
    """PNG of at most `max_bytes`: columns are left out from the right until it fits."""
    for count in range(len(columns), 0, -1):
        sheet = _draw(columns[:count], models)
        data = _png(sheet)
        if len(data) <= max_bytes:
            return data
    return _png(Image.new("RGB", (CELL, CELL), PAPER))


def _png(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.quantize(256, dither=Image.Dither.NONE).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _draw(columns: list[Column], models: list[str]) -> Image.Image:
    width = 2 * EDGE + LEFT + len(columns) * (CELL + GAP) - GAP
    height = 2 * EDGE + TOP + len(models) * (CELL + GAP) - GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    small, normal = ImageFont.load_default(12), ImageFont.load_default(14)
    for row, model in enumerate(models):
        y = EDGE + TOP + row * (CELL + GAP) + CELL // 2
        draw.text((EDGE, y), visible(model)[:14], INK, normal, anchor="lm")
    for number, column in enumerate(columns):
        x = EDGE + LEFT + number * (CELL + GAP)
        lines = textwrap.wrap(visible(column.caption), CAPTION_CHARACTERS, max_lines=CAPTION_LINES, placeholder=" …")
        draw.multiline_text((x, EDGE + TOP - 8), "\n".join(lines), SOFT, small, anchor="ld", spacing=3)
        for row, model in enumerate(models):
            _cell(sheet, draw, x, EDGE + TOP + row * (CELL + GAP), column.cells.get(model))
    return sheet


def _cell(sheet: Image.Image, draw: ImageDraw.ImageDraw, x: int, y: int, cell: Cell | None) -> None:
    if cell is None:
        draw.rectangle((x, y, x + CELL - 1, y + CELL - 1), outline="#e5e3dd")
        return
    whole = cell.pixels.shape[1] and CELL % cell.pixels.shape[1] == 0
    how = Image.Resampling.NEAREST if whole else Image.Resampling.BICUBIC
    sheet.paste(Image.fromarray(cell.pixels).resize((CELL, CELL), how), (x, y))
    box = (x + CELL - 20, y + CELL - 20, x + CELL - 4, y + CELL - 4)
    draw.ellipse(box, fill=RIGHT if cell.correct else WRONG, outline=PAPER, width=2)
    left, top = box[0], box[1]
    strokes = (
        [[(left + 4, top + 8), (left + 7, top + 11), (left + 12, top + 5)]]
        if cell.correct
        else [[(left + 5, top + 5), (left + 11, top + 11)], [(left + 11, top + 5), (left + 5, top + 11)]]
    )
    for stroke in strokes:
        draw.line(stroke, fill=PAPER, width=2)
