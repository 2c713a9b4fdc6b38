"""What a detector found in an image, as JSON text: the raw column that verdicts are derived from."""

import json
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lightgen.evaluation.geneval import Detected


class _Thing(BaseModel):
    """One object of the list."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(alias="class")
    score: float
    color: str | None = None
    box: tuple[float, float, float, float]


_THINGS = TypeAdapter(list[_Thing])


def write_detections(found: Iterable[Detected]) -> str:
    """A list of {"class", "score", "color", "box": [x0, y0, x1, y1] in px}; numbers keep all their digits."""
    return json.dumps(
        [
            {"class": box.name, "score": float(box.score), "color": box.color, "box": [float(side) for side in box.box]}
            for box in found
        ],
        allow_nan=False,
    )


def read_detections(text: str) -> list[Detected]:
    """The inverse of `write_detections`; raises ValueError (pydantic's) on anything else."""
    return [Detected(thing.name, thing.score, thing.box, thing.color) for thing in _THINGS.validate_json(text)]
