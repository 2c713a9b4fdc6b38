"""Generator `sprites`: draws the compositional captions of the scene world with your own pictures in place of shapes.

A pack is a folder of PNG or WebP files with transparency and a `names.json`: {"1f436.webp": "dog", "1f431.png": "cat"}.
The Fluent emoji (npm @lobehub/fluent-emoji-3d, MIT) are such pictures. Captions are those of `lightgen.scenes.grammar`
with the pack's names for shapes ("three dogs", "a dog left of a cat on a light background") and without colours:
a picture has its own.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from lightgen.errors import ConfigError
from lightgen.generators.base import Drawn, Failure, GeneratorMember
from lightgen.scenes.draw import DEFAULT_GROUND, Place, places_of
from lightgen.scenes.grammar import SHAPES, Scene, parse
from lightgen.scenes.shapes import GROUNDS
from lightgen.work import Work, Worker
from schemas.canonical import canonical_json

NAMES = "names.json"
MAX_SPRITE_PX = 4096


class SpritesConfig(GeneratorMember):
    """Where the pack is; it is named by its files, not by its place."""

    kind: Literal["sprites"] = "sprites"
    folder: str = Field(min_length=1, description=f"folder of PNG or WebP files and {NAMES}")

    def content(self) -> dict[str, Any]:
        """The digest of the pack. Raises ConfigError where it cannot be read."""
        return {"kind": self.kind, "sha256": SpritePack(Path(self.folder)).digest}

    def open(self, work: Work, worker: Worker) -> "SpritesGenerator":
        """See `GeneratorMember.open`."""
        return SpritesGenerator(SpritePack(Path(self.folder)))


class SpritePack:
    """Pictures by name, read from a folder; raises ConfigError where the folder, a name or a picture is unusable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = _read_names(folder)
        self._read: dict[str, Image.Image] = {}

    @cached_property
    def digest(self) -> str:
        """sha256 over names and file contents."""
        digests = {
            name: hashlib.sha256((self.folder / file).read_bytes()).hexdigest() for name, file in self.files.items()
        }
        return hashlib.sha256(canonical_json(digests)).hexdigest()

    def sprite(self, name: str) -> Image.Image:
        """The picture of `name` with premultiplied alpha, cut to what is visible of it; read once."""
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def _load(self, name: str) -> Image.Image:
        path = self.folder / self.files[name]
        try:
            with Image.open(path, formats=("PNG", "WEBP")) as image:
                if max(image.size) > MAX_SPRITE_PX:
                    raise ConfigError(f"{path}: {image.size} px is larger than {MAX_SPRITE_PX} px; scale it down")
                picture = image.convert("RGBA")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise ConfigError(f"{path}: not a PNG or WebP that can be read ({error}); repair or rename it") from error
        visible = picture.getchannel("A").getbbox()
        if visible is None:
            raise ConfigError(f"{path}: nothing of it is visible; remove it from {NAMES}")
        return picture.crop(visible).convert("RGBa")


class SpritesGenerator:
    """Places pictures as a caption says; captions outside its language fail row by row."""

    def __init__(self, pack: SpritePack) -> None:
        self.pack = pack

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Drawn]:
        """See `Generator.generate`."""
        return [self._draw(caption, seed, height_px, width_px) for caption, seed in zip(captions, seeds, strict=True)]

    def _draw(self, caption: str, seed: int, height_px: int, width_px: int) -> Drawn:
        meaning = self.read(caption)
        if meaning is None:
            return Failure("caption_not_drawable", f"the sprites generator does not know {caption[:200]!r}")
        scene, names = meaning
        picture = Image.new("RGB", (width_px, height_px), GROUNDS[scene.background or DEFAULT_GROUND])
        things = [names[thing.shape] for thing in scene.objects for _ in range(thing.count)]
        for name, place in zip(things, places_of(scene, len(things), Random(seed)), strict=True):
            _paste(picture, self.pack.sprite(name), place)
        return np.asarray(picture)

    def read(self, caption: str) -> tuple[Scene, dict[str, str]] | None:
        """The scene with stand-in shapes, and the pack's name of each stand-in; None if outside the language.

        The pack's nouns are exchanged for shapes, so the one grammar serves both generators.
        """
        text = " ".join(caption.lower().split())
        names: dict[str, str] = {}
        for match in self._nouns.finditer(text):
            names.setdefault(self._singular[match["noun"]], SHAPES[min(len(names), len(SHAPES) - 1)])
        plain = self._nouns.sub(lambda match: self._as_shape(match, names), text)
        scene = parse(plain)
        if scene is None or {thing.shape for thing in scene.objects} != set(names.values()):
            return None
        if any(thing.color for thing in scene.objects):
            return None
        return scene, {shape: name for name, shape in names.items()}

    @cached_property
    def _singular(self) -> dict[str, str]:
        return {plural: name for name in self.pack.files for plural in (_plural(name), name)}

    @cached_property
    def _nouns(self) -> re.Pattern[str]:
        longest_first = sorted(map(re.escape, self._singular), key=len, reverse=True)
        return re.compile(rf"(?P<number>\ban?|two|three|four) (?P<noun>{'|'.join(longest_first)})(?= |\.|$)")

    def _as_shape(self, match: re.Match[str], names: dict[str, str]) -> str:
        one = match["number"] in ("a", "an")
        name = self._singular[match["noun"]]
        # "a dogs" and "two dog" stay as they are, and the grammar refuses them.
        if match["noun"] != (name if one else _plural(name)):
            return match[0]
        return f"a {names[name]}" if one else f"{match['number']} {_plural(names[name])}"


def _plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", noun) else "s")


def _paste(picture: Image.Image, sprite: Image.Image, place: Place) -> None:
    """Scales a sprite to its place by its longer side and lays it there."""
    scale = place.size * min(picture.size) / max(sprite.size)
    width, height = (max(1, round(side * scale)) for side in sprite.size)
    small = sprite.resize((width, height), Image.Resampling.BOX).convert("RGBA")
    left, top = round(place.x * picture.width - width / 2), round(place.y * picture.height - height / 2)
    picture.paste(small, (left, top), small)


def _read_names(folder: Path) -> dict[str, str]:
    """File by name, names sorted."""
    path = folder / NAMES
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}; a sprite pack needs it beside its files"
        ) from error
    except ValueError as error:
        raise ConfigError(f'{path}: not JSON ({error}); it should be like {{"1f436.webp": "dog"}}') from error
    if not isinstance(found, dict) or not found:
        raise ConfigError(f'{path}: it should be like {{"1f436.webp": "dog"}}')
    names: dict[str, str] = {}
    for file, name in found.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z-]*( [a-z-]+)*", name) or name in names:
            raise ConfigError(f"{path}: {file}: the name {name!r} is no lower-case noun, or is there twice")
        if Path(file).name != file or not (folder / file).is_file():
            raise ConfigError(f"{path}: {file!r} is no file of that folder")
        names[name] = file
    return dict(sorted(names.items()))
