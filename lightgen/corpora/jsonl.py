"""JSON lines: one field of an object a line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lightgen.corpora.lines import LineCorpus, as_text
from lightgen.corpora.raw import RawCaption
from lightgen.errors import InputCorrupt

MAX_DEPTH, MAX_DIGITS = 64, 4_000


class JsonlCorpus(LineCorpus):
    """One field of a JSON lines file. A line that is not a safe JSON object stops the reading with its number."""

    kind: Literal["jsonl"] = "jsonl"
    field: str = Field(default="caption", description="that of the captions")

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        lines = [json.dumps({"id": row, self.field: caption}) for row, caption in enumerate(captions)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def records(self, lines: Iterator[bytes], column: int | None) -> tuple[int, Iterator[bytes]]:
        """See `LineCorpus.records`."""
        return 0, lines

    def caption_of(self, record: bytes, row: int, column: int) -> RawCaption | None:
        """See `LineCorpus.caption_of`; a blank line holds no caption."""
        if not record.strip():
            return None
        found = safe_object(record, f"{self.path}:{row + 1}")
        if self.field not in found:
            names = ", ".join(sorted(found))
            raise InputCorrupt(f"{self.path}:{row + 1} has no field {self.field!r}; it has {names}: set `field`")
        return self.caption(found[self.field], row)


def safe_object(line: bytes, where: str) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN, huge numbers or deep nesting. Raises InputCorrupt."""

    def refuse(constant: str) -> object:
        raise ValueError(f"the constant {constant} is not JSON")

    def integer(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"a number of {len(digits)} digits")
        return int(digits)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            raise ValueError("a key stands twice")
        return record

    try:
        if _depth(line) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        record = json.loads(as_text(line), parse_constant=refuse, parse_int=integer, object_pairs_hook=unique)
    except ValueError as error:
        raise InputCorrupt(f"{where} is not safe JSON: {error}") from None
    if not isinstance(record, dict):
        raise InputCorrupt(f"{where} is {type(record).__name__}, not an object")
    return record


def _depth(line: bytes) -> int:
    """Most brackets open at once, brackets inside strings counted too: an upper bound."""
    brackets = line.count(b"[") + line.count(b"{")
    if brackets <= MAX_DEPTH:
        return brackets
    depth = deepest = 0
    for byte in line:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    return deepest
