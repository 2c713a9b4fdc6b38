"""Figures that others have printed: shown beside a report, and in no way part of what was measured."""

from pathlib import Path

from pydantic import ValidationError

from lightgen.errors import ConfigError, InputCorrupt
from schemas.report import Published, PublishedTable

OWN = ("lightgen",)  # tables that come with the program
FOLDER = Path(__file__).parent / "published"


def published_tables(of: str, names: tuple[str, ...] = ()) -> list[PublishedTable]:
    """The tables of a publication, or those of its tables that are named, in that order.

    `of` is one of OWN, or the path of a JSON file as `schemas.report.Published` describes it. Raises InputCorrupt for a
    file that is no such thing, ConfigError for a table that it has not.
    """
    try:
        text = (FOLDER / f"{of}.json" if of in OWN else Path(of)).read_text(encoding="utf-8")
        tables = Published.model_validate_json(text).tables
    except (OSError, ValueError, ValidationError) as error:
        raise InputCorrupt(f"{of}: no published tables: {str(error)[:300]}") from None
    known = {table.name: table for table in tables}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"{of} has no {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else tables
