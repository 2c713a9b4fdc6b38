"""A corpus of a kind, read at once and range by range."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import TypeAdapter

from lightgen.corpora.base import Corpus
from lightgen.corpora.config import CorpusConfig

CONFIG: TypeAdapter[Any] = TypeAdapter(CorpusConfig)


def corpus(kind: str, path: Path | str, **settings: Any) -> Corpus:
    """One of a kind at a path."""
    return CONFIG.validate_python({"kind": kind, "path": str(path), "source": "test", **settings})


def read(kind: str, path: Path | str, **settings: Any) -> list[str | None]:
    """Texts, and the reasons of what is refused. Reading range by range must give the same."""
    made = corpus(kind, path, **settings)
    rows = list(made.read())
    with TemporaryDirectory() as scratch:
        again = [
            row
            for file in made.files()
            for inventory in [file.cut(2)]
            for place in inventory.places()
            for row in file.read_range(inventory, place, Path(scratch))
        ]
    assert again == rows
    return [row.refused[0] if row.refused else row.text.decode() if row.text is not None else None for row in rows]
