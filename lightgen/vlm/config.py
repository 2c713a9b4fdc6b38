"""The closed family of vision-language models; a new one is one file beside this and one line in the union."""

from typing import Annotated

from pydantic import Field

from lightgen.vlm.qwen import TransformersVlmConfig
from lightgen.vlm.server import ServerVlmConfig

AnyVlm = TransformersVlmConfig | ServerVlmConfig
VlmConfig = Annotated[AnyVlm, Field(discriminator="kind")]
