"""The closed family of teachers; a new one is one file beside this and one line in the union."""

from typing import Annotated

from pydantic import Field

from lightgen.teachers.base import Teacher
from lightgen.teachers.flux import FluxConfig, FluxTeacher
from lightgen.teachers.scenes import ScenesConfig, ScenesTeacher

TeacherConfig = Annotated[ScenesConfig | FluxConfig, Field(discriminator="kind")]


def make_teacher(config: ScenesConfig | FluxConfig) -> Teacher:
    """The teacher; weights are not loaded before its first image."""
    return FluxTeacher(config) if isinstance(config, FluxConfig) else ScenesTeacher(config)


def teacher_content(config: ScenesConfig | FluxConfig) -> ScenesConfig | FluxConfig:
    """`config` without what changes the speed only."""
    return config.content() if isinstance(config, FluxConfig) else config


def teacher_modules(config: ScenesConfig | FluxConfig) -> list[str]:
    """The sources that decide the pixels, for the recipe of a version."""
    if isinstance(config, FluxConfig):
        return ["lightgen.teachers.flux"]
    return ["lightgen.teachers.scenes", "lightgen.scenes"]
