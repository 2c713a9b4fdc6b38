"""The closed family of generators; a new one is one file beside this and one line in the union."""

from typing import Annotated

from pydantic import Field

from lightgen.generators.diffusers import DiffusersConfig
from lightgen.generators.flux import FluxConfig
from lightgen.generators.images_api import ImagesApiConfig
from lightgen.generators.scenes import ScenesConfig
from lightgen.generators.sprites import SpritesConfig
from lightgen.generators.student import StudentGeneratorConfig, UntrainedGeneratorConfig

AnyGenerator = (
    ScenesConfig
    | SpritesConfig
    | FluxConfig
    | DiffusersConfig
    | ImagesApiConfig
    | StudentGeneratorConfig
    | UntrainedGeneratorConfig
)
GeneratorConfig = Annotated[AnyGenerator, Field(discriminator="kind")]
