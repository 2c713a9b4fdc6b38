"""The closed family of scorers; a new one is one file beside this and one line in the union."""

from typing import Annotated

from pydantic import Field

from lightgen.scorers.mask2former import Mask2FormerConfig
from lightgen.scorers.pixels import PixelsConfig
from lightgen.scorers.qwen_vl import QwenVlConfig
from lightgen.scorers.scenes import ScenesDetectorConfig

AnyScorer = PixelsConfig | ScenesDetectorConfig | Mask2FormerConfig | QwenVlConfig
ScorerConfig = Annotated[AnyScorer, Field(discriminator="kind")]
