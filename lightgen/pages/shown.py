"""What a page shows of a version: tiles, rows, charts and facts, and pictures as addresses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from lightgen.pages.html import picture
from lightgen.pages.rows import Row
from lightgen.storage.pixels import BadImage, decode_over_checks

PAGE_PX = 320  # of a picture, about twice what a page shows, so that it is scaled down; small ones are enlarged
SAME = "The same prompts are on the pages of all stages, as far as they are still there."


@dataclass(frozen=True)
class Tile:
    """One picture: its address, what it shows, its id to copy, and a note."""

    uri: str
    caption: str
    id: str
    note: str = ""


@dataclass(frozen=True)
class Twin:
    """A refused image beside the one it is like."""

    reason: str
    detail: str
    refused: Tile
    keeper: Tile | None


@dataclass(frozen=True)
class Shown:
    """What a page shows of a version; whatever is empty is left out."""

    note: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    tiles: Sequence[Tile] = ()
    pairs: Sequence[tuple[Row, Tile, Tile]] = ()
    twins: Sequence[Twin] = ()
    title: str = "Training"
    charts: Sequence[Markup] = ()
    sheets: Sequence[tuple[str, str]] = ()
    facts: dict[str, str] = field(default_factory=dict)
    sections: Sequence[Markup] = ()


def page_picture(data: bytes) -> str:
    """Data URI of the size that pages show."""
    return shrunk(data, PAGE_PX, 85, PAGE_PX)


def shrunk(data: bytes, side_px: int, quality: int, least_px: int = 0) -> str:
    """Data URI of at most `side_px`, of at least `least_px`; bytes that are no image become an empty picture."""
    pixels = decode_over_checks(data)
    return "data:," if isinstance(pixels, BadImage) else picture(pixels, least_px, side_px, quality)


def tile_of(row: Row, data: bytes, note: str) -> Tile:
    """A picture with the caption of its row."""
    return Tile(page_picture(data), row["caption"], row["id"], note)


def size_of(row: Row) -> str:
    """Width and height of the picture of a row."""
    return f"{row['width']}×{row['height']}"
