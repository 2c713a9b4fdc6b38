"""Folders in GenEval's layout, as its own script leaves them; the pictures are scenes."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from lightgen.evaluation.geneval import scene_meaning
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import parse

RIGHT, OTHER = "a photo of a red circle left of a blue square", "a photo of two green squares"


def picture(text: str, seed: int) -> np.ndarray:
    scene = parse(text)
    assert scene is not None
    return draw(scene, 64, seed)


def official(folder: Path, number: int, line: dict, shown: list[str]) -> None:
    """As GenEval's own script leaves one prompt, whose pictures show the captions `shown`."""
    place = folder / f"{number:05}" / "samples"
    place.mkdir(parents=True)
    (place.parent / "metadata.jsonl").write_text(json.dumps(line))
    for index, text in enumerate(shown):
        Image.fromarray(picture(text, index)).save(place / f"{index:04}.png")


def line_of(text: str) -> dict:
    meaning = scene_meaning(text)
    assert meaning is not None
    return json.loads(meaning.model_dump_json(by_alias=True, exclude_none=True))
