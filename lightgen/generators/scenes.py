"""Generator `scenes`: draws compositional captions exactly, on any machine."""

from collections.abc import Sequence
from typing import Literal

from lightgen.generators.base import Drawn, Failure, GeneratorMember
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import parse
from lightgen.work import Work, Worker


class ScenesConfig(GeneratorMember):
    """No settings: a caption and a seed decide the picture."""

    kind: Literal["scenes"] = "scenes"

    def open(self, work: Work, worker: Worker) -> "ScenesGenerator":
        """See `GeneratorMember.open`."""
        return ScenesGenerator()


class ScenesGenerator:
    """Draws what a caption says; captions outside the grammar fail row by row."""

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Drawn]:
        """See `Generator.generate`."""
        return [_draw(caption, seed, height_px, width_px) for caption, seed in zip(captions, seeds, strict=True)]


def _draw(caption: str, seed: int, height_px: int, width_px: int) -> Drawn:
    scene = parse(caption)
    if scene is None:
        return Failure("caption_not_drawable", f"the scenes generator does not know {caption[:200]!r}")
    return draw(scene, height_px, seed, width_px)
