"""GenEval's folder layout: 00000/metadata.jsonl and 00000/samples/0000.png, one folder a prompt; and its metadata."""

import codecs
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightgen.errors import ConfigError, InputCorrupt
from lightgen.evaluation.geneval import Metadata
from lightgen.texts import repaired

WRAPPED = ("tag", "prompt", "class", "color", "count")  # keys whose values GenEval's own generator wraps in lists


@dataclass(frozen=True)
class Prompted:
    """One folder: what its prompt means, and its pictures by index."""

    name: str
    meaning: Metadata
    samples: dict[int, Path]
    wrapped: bool = False  # whether its metadata wrap strings in lists


def read_meaning(line: str | bytes) -> tuple[Metadata, bool]:
    """A line of metadata, and whether its strings were wrapped in lists. Raises ValueError.

    GenEval's script of drawing reads its prompts through a loader of batches of one, which wraps every string in a
    list; its evaluator cannot read such a line. Both forms are read here.
    """
    told = json.loads(line)
    plain = _unwrapped(told)
    return Metadata.model_validate(plain), plain != told


def read_metadata(path: str | None) -> tuple[dict[str, Metadata], str]:
    """GenEval's `evaluation_metadata.jsonl` by prompt, repaired as captions are, and its sha256.

    Blank lines hold nothing. Raises InputCorrupt naming the line.
    """
    if path is None:
        return {}, ""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputCorrupt(f"evaluate.metadata: {path} cannot be read: {error.strerror}") from error
    known: dict[str, Metadata] = {}
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            meaning, _ = read_meaning(line)
        except ValueError as error:
            raise InputCorrupt(f"{path}, line {number}: not a line of GenEval's metadata: {error}") from error
        known[repaired(meaning.prompt)] = meaning
    return known, hashlib.sha256(data).hexdigest()


def read_folder(folder: Path) -> list[Prompted]:
    """Every prompt of a folder in GenEval's layout, by name. Raises InputCorrupt naming what is wrong."""
    inside = folder.iterdir() if folder.is_dir() else []
    names = sorted(path for path in inside if path.is_dir() and path.name.isdigit())
    if not names:
        raise InputCorrupt(f"{folder}: no folders 00000, 00001, … as GenEval lays them out")
    return [_read_prompt(path) for path in names]


def write_folder(folder: Path, prompts: Iterable[tuple[Metadata, dict[int, bytes]]]) -> Iterator[int]:
    """Writes PNG files of each prompt by index into a new folder; gives how many. Raises ConfigError if it is there."""
    if folder.exists():
        raise ConfigError(f"{folder} is there already; name a new folder, nothing is written over")
    for number, (meaning, samples) in enumerate(prompts):
        place = folder / f"{number:05}" / "samples"
        place.mkdir(parents=True)
        line = json.dumps(meaning.model_dump(mode="json", by_alias=True, exclude_none=True))
        (place.parent / "metadata.jsonl").write_text(line, encoding="utf-8")
        for index, data in samples.items():
            (place / f"{index:04}.png").write_bytes(data)
        yield len(samples)


def _read_prompt(path: Path) -> Prompted:
    file = path / "metadata.jsonl"
    try:
        meaning, wrapped = read_meaning(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputCorrupt(f"{file}: not a line of GenEval's metadata: {str(error)[:300]}") from None
    samples = {int(one.stem): one for one in sorted((path / "samples").glob("*.png")) if one.stem.isdigit()}
    return Prompted(path.name, meaning, samples, wrapped)


def _unwrapped(value: Any) -> Any:
    if isinstance(value, list):
        return [_unwrapped(each) for each in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _alone(each) if key in WRAPPED else _unwrapped(each) for key, each in value.items()}
    if isinstance(plain.get("position"), list):
        plain["position"] = [_alone(part) for part in plain["position"]]
    return plain


def _alone(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value
