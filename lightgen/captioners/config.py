"""The closed family of captioners; a new one is one file beside this and one line in the union."""

from typing import Annotated

from pydantic import Field

from lightgen.captioners.given import GivenCaptionerConfig
from lightgen.captioners.vlm import VlmCaptionerConfig

AnyCaptioner = GivenCaptionerConfig | VlmCaptionerConfig
CaptionerConfig = Annotated[AnyCaptioner, Field(discriminator="kind")]
