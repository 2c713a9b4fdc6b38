"""Inventories are taken once: they are remembered beside the digests of files, under what the corpus is and holds."""

import os
import uuid
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from lightgen.corpora.ranges import Inventory
from lightgen.errors import InputChanged
from lightgen.seeds import content_id
from lightgen.settings import cache_folder

FORMAT = 3  # raised when corpora are cut otherwise


class Countable(Protocol):
    """What an inventory can be taken of: settings with these methods, as `Corpus` describes them."""

    @property
    def given(self) -> str: ...
    def state(self) -> str: ...
    def cut(self, rows: int) -> Inventory: ...
    def model_dump(self, *, mode: str, exclude: set[str]) -> dict[str, Any]: ...


def take_inventory(corpus: Countable, rows: int) -> Inventory:
    """The ranges of a corpus, `rows` rows each. An unchanged corpus is not read again.

    Raises InputCorrupt, and InputChanged where somebody writes to the corpus meanwhile.
    """
    state = corpus.state()
    path = cache_folder() / "inventories" / f"{content_id(FORMAT, _cut_by(corpus), rows, state)}.json"
    if (known := _remembered(path)) is not None:
        return known
    found = corpus.cut(rows)
    if corpus.state() != state:
        raise InputChanged(
            f"{corpus.given} was changed while it was read for the first time. Wait until it is whole, then run the "
            "same command again"
        )
    _remember(path, found)
    return found


def _cut_by(corpus: Countable) -> dict[str, object]:
    """All settings but what only goes with the captions, or says where they are."""
    return corpus.model_dump(mode="json", exclude={"path", "source", "licence"})


def _remembered(path: Path) -> Inventory | None:
    try:
        return Inventory.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _remember(path: Path, found: Inventory) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{uuid.uuid4().hex}")
    temporary.write_bytes(found.model_dump_json().encode())
    os.replace(temporary, path)
