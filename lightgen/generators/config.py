"""The closed family of teachers; a new one is one file beside this and one line in the union."""

from typing import Annotated

from pydantic import Field

from lightgen.generators.base import Teacher
from lightgen.generators.flux import FluxConfig, FluxTeacher
from lightgen.generators.scenes import ScenesConfig, ScenesTeacher
from lightgen.generators.sprites import SpritesConfig, SpritesTeacher

AnyConfig = ScenesConfig | SpritesConfig | FluxConfig
TeacherConfig = Annotated[AnyConfig, Field(discriminator="kind")]


def make_teacher(config: AnyConfig) -> Teacher:
    """The teacher; weights are not loaded before its first image."""
    if isinstance(config, SpritesConfig):
        return SpritesTeacher(config)
    return FluxTeacher(config) if isinstance(config, FluxConfig) else ScenesTeacher(config)


def teacher_content(config: AnyConfig) -> AnyConfig:
    """`config` without what changes the speed only."""
    return config if isinstance(config, ScenesConfig) else config.content()


def teacher_modules(config: AnyConfig) -> list[str]:
    """The sources that decide the pixels, for the recipe of a version."""
    if isinstance(config, FluxConfig):
        return ["lightgen.generators.flux"]
    return [f"lightgen.generators.{config.kind}", "lightgen.scenes"]
