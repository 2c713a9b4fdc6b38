"""Tiny random models that paint and look, as rehearsals use them."""

from pathlib import Path

from lightgen.generators.tiny_flux import tiny_flux
from lightgen.scorers.tiny import tiny_clip, tiny_segmenter

__all__ = ["tiny_flux", "tiny_mask2former"]


def tiny_mask2former(root: Path) -> Path:
    """A Mask2Former in `root`/segmenter and a CLIP in `root`/colors, saved as the large ones are."""
    tiny_segmenter(root / "segmenter")
    tiny_clip(root / "colors")
    return root
