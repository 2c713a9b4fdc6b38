"""Judges: the closed union of their settings, and what they all can do."""

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from lightgen.scorers.qwen_vl import QwenVlConfig, QwenVlJudge
from lightgen.scorers.scenes_judge import ScenesJudge, ScenesJudgeConfig
from lightgen.scorers.verdict import Verdict

JudgeConfig = Annotated[ScenesJudgeConfig | QwenVlConfig, Field(discriminator="kind")]


class Judge(Protocol):
    """Says how well images show their captions."""

    def identity(self) -> dict[str, Any]:
        """What names the judge in a recipe."""
        ...

    def judge(self, captions: Sequence[str], images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[Verdict]:
        """One verdict an image; an image that could not be judged has `judged` False and says why."""
        ...


def load_judge(config: ScenesJudgeConfig | QwenVlConfig, device: str) -> Judge:
    """The judge of these settings, ready to use."""
    if isinstance(config, ScenesJudgeConfig):
        return ScenesJudge(config)
    return QwenVlJudge(config, device)
