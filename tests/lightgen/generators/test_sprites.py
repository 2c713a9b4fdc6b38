import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pydantic import TypeAdapter

from lightgen.errors import ConfigError
from lightgen.generators.base import Drawn, Failure
from lightgen.generators.config import GeneratorConfig
from lightgen.generators.sprites import SpritePack, SpritesConfig, SpritesGenerator

RED, BLUE = (230, 20, 20), (20, 40, 230)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """An apple (a red disc with a wide transparent rim) and a puppy (a blue box, in WebP)."""
    apple = Image.new("RGBA", (80, 80), (0, 255, 0, 0))
    ImageDraw.Draw(apple).ellipse((20, 20, 59, 59), fill=RED)
    apple.save(tmp_path / "1f34e.png")
    Image.new("RGBA", (40, 40), BLUE).save(tmp_path / "dog.webp", lossless=True)
    (tmp_path / "names.json").write_text(json.dumps({"1f34e.png": "apple", "dog.webp": "puppy"}))
    return tmp_path


def _draw(pack: Path, caption: str, seed: int, height_px: int, width_px: int) -> Drawn:
    return SpritesGenerator(SpritePack(pack)).generate([caption], [seed], height_px, width_px)[0]


def _paint(pack: Path, caption: str, size_px: int = 64, seed: int = 1, width_px: int | None = None) -> np.ndarray:
    image = _draw(pack, caption, seed, size_px, width_px or size_px)
    assert isinstance(image, np.ndarray), image
    assert image.shape == (size_px, width_px or size_px, 3)
    assert image.dtype == np.uint8
    return image.astype(int)


def _centre(image: np.ndarray, rgb: tuple[int, int, int]) -> tuple[float, float]:
    rows, columns = np.nonzero(np.abs(image - np.array(rgb)).sum(axis=2) < 40)
    return columns.mean(), rows.mean()


@pytest.mark.parametrize("seed", range(5))
def test_sprites_stand_where_the_caption_says(pack: Path, seed: int) -> None:
    image = _paint(pack, "a photo of an apple left of a puppy on a light background", seed=seed)
    assert _centre(image, RED)[0] < 32 < _centre(image, BLUE)[0]
    image = _paint(pack, "a puppy above an apple", seed=seed)
    assert _centre(image, BLUE)[1] < 32 < _centre(image, RED)[1]


@pytest.mark.parametrize("seed", range(5))
def test_sprites_stand_there_on_pictures_that_are_no_squares(pack: Path, seed: int) -> None:
    wide = _paint(pack, "an apple left of a puppy", 48, seed, 96)
    assert _centre(wide, RED)[0] < 48 < _centre(wide, BLUE)[0]
    tall = _paint(pack, "a puppy above an apple", 96, seed, 48)
    assert _centre(tall, BLUE)[1] < 48 < _centre(tall, RED)[1]
    # As large as the shorter edge allows, and as tall as they are wide.
    rows, columns = np.nonzero(np.abs(wide - np.array(BLUE)).sum(axis=2) < 40)
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=1)


def test_as_many_as_asked_and_no_halo_of_what_is_transparent(pack: Path) -> None:
    one, three = _paint(pack, "three puppies"), _paint(pack, "four puppies")
    blue = [int((np.abs(image - np.array(BLUE)).sum(axis=2) < 40).sum()) for image in (one, three)]
    assert 1.1 < blue[1] / blue[0] < 1.6
    apple = _paint(pack, "an apple", 37)
    assert (apple[:, :, 1] < 60).all()


@pytest.mark.parametrize(
    "caption", ["a dog", "two apple", "a apples", "a red apple", "an apple and an apple", "a circle"]
)
def test_captions_of_another_language_fail(pack: Path, caption: str) -> None:
    failure = _draw(pack, caption, 1, 32, 32)
    assert isinstance(failure, Failure)
    assert failure.reason == "caption_not_drawable"


def test_identity_follows_the_files_and_not_their_place(pack: Path, tmp_path_factory) -> None:
    before = SpritesConfig(folder=str(pack)).identity()
    moved = tmp_path_factory.mktemp("elsewhere") / pack.name
    moved.mkdir()
    for file in pack.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    there = SpritesConfig(folder=str(moved))
    assert there.identity() == before
    assert set(before) == {"kind", "revision", "sha256"}
    Image.new("RGBA", (40, 40), RED).save(moved / "dog.webp", lossless=True)
    assert there.identity() != before


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[]", "should be like"),
        ('{"dog.webp": "Dog!"}', "no lower-case noun"),
        ('{"cat.png": "cat"}', "no file"),
        ('{"../names.json": "cat"}', "no file"),
        ('{"dog.webp": "dog", "1f34e.png": "dog"}', "twice"),
    ],
)
def test_a_broken_pack_is_refused(pack: Path, names: str | None, message: str) -> None:
    (pack / "names.json").unlink()
    if names is not None:
        (pack / "names.json").write_text(names)
    with pytest.raises(ConfigError, match=message):
        SpritesConfig(folder=str(pack)).identity()


def test_a_broken_picture_is_refused_by_name(pack: Path) -> None:
    (pack / "dog.webp").write_bytes(b"RIFF nothing")
    with pytest.raises(ConfigError, match=r"dog\.webp"):
        _paint(pack, "a puppy")


def test_the_union_finds_it(pack: Path) -> None:
    config = TypeAdapter(GeneratorConfig).validate_python({"kind": "sprites", "folder": str(pack)})
    assert isinstance(config, SpritesConfig)
    assert isinstance(config.open(None, None), SpritesGenerator)  # type: ignore[arg-type]  # it asks neither
    assert str(pack.parent) not in json.dumps(config.identity())
