"""The part `generate: {mix: …}` of a recipe: several generators draw the prompts, each its share of them.

Each draws in a step of its own: its images are a version with its own rejects, its own price and its own need of a GPU,
and a worker loads no other. Stage `join` makes one version of them.
"""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from lightgen.config import Config
from lightgen.generators.shares import Part
from lightgen.problems import Problem
from lightgen.stages.generate import GenerateConfig


class MixMember(GenerateConfig):
    """One of the generators: how much it draws, and all that `generate` says of one that draws alone."""

    share: float = Field(gt=0, allow_inf_nan=False, description="of the prompts; only the ratio to the others' counts")

    @model_validator(mode="after")
    def _no_part(self) -> "MixMember":
        if self.part is not None:
            raise ValueError("part follows from the shares of the mix; leave it out")
        return self


class MixConfig(Config):
    """The generators by name; each image has the name of its own in the column `generator`."""

    mix: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")], MixMember] = Field(
        min_length=2, description="the generators by name, each with its share"
    )

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a student as one of the teachers, whose size is not said."""
        for name, member in self.mix.items():
            if member.sides is None:
                yield Problem("recipe", f"mix.{name}", "no size: members of a mix draw at sizes of their own",
                              "give size_px")  # fmt: skip

    @property
    def drawings(self) -> dict[str, GenerateConfig]:
        """What each generator draws, by name."""
        shares = {name: member.share for name, member in self.mix.items()}
        return {name: _alone(member, Part(name=name, shares=shares)) for name, member in self.mix.items()}


def drawings(part: object) -> list[GenerateConfig]:
    """What is drawn by the part `generate` of a recipe: by one generator, by several, or by none here."""
    if isinstance(part, MixConfig):
        return list(part.drawings.values())
    return [part] if isinstance(part, GenerateConfig) else []


def _alone(member: MixMember, part: Part) -> GenerateConfig:
    own = {name: getattr(member, name) for name in GenerateConfig.model_fields}
    return GenerateConfig.model_validate(own | {"part": part})
