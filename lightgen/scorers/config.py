"""The closed family of scorers; a new one is one file beside this and one line in the union."""

from typing import Annotated

from pydantic import Field

from lightgen.scorers.embedding import EmbeddingConfig
from lightgen.scorers.layout import LayoutConfig
from lightgen.scorers.mask2former import Mask2FormerConfig
from lightgen.scorers.pixels import PixelsConfig
from lightgen.scorers.scenes import ScenesDetectorConfig
from lightgen.scorers.vlm import VlmScorerConfig

AnyScorer = PixelsConfig | ScenesDetectorConfig | Mask2FormerConfig | VlmScorerConfig | LayoutConfig | EmbeddingConfig
ScorerConfig = Annotated[AnyScorer, Field(discriminator="kind")]
