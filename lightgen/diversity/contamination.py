"""Which captions give an evaluation prompt away: equal after normalisation, or containing its n-grams."""

import re
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from lightgen.diversity.shingles import shingle


class ContaminationConfig(BaseModel):
    """How close to an evaluation prompt is too close."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    containment: float | None = Field(
        default=0.8, gt=0, le=1, description="share of the prompt's n-grams in a caption; null: only equal texts"
    )
    words: int = Field(default=4, ge=1, le=8, description="words an n-gram; shorter prompts count only when equal")


def contaminated(captions: Sequence[str], prompts: Sequence[str], config: ContaminationConfig) -> dict[int, str]:
    """Index of each contaminated caption -> why, naming the prompt."""
    exact = {normalised(prompt): prompt for prompt in prompts}
    found = {
        i: f"equals the evaluation prompt {exact[plain]!r}"
        for i, caption in enumerate(captions)
        if (plain := normalised(caption)) in exact
    }
    if config.containment is not None:
        for i, (share, prompt) in _contained(captions, prompts, config.words, config.containment).items():
            found.setdefault(i, f"holds {share:.0%} of the evaluation prompt {prompt!r}")
    return found


def normalised(text: str) -> str:
    """Lower-case words only."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _contained(
    captions: Sequence[str], prompts: Sequence[str], words: int, least: float
) -> dict[int, tuple[float, str]]:
    long = [prompt for prompt in prompts if len(normalised(prompt).split()) >= words]
    grams = shingle(long, words)
    owners: dict[int, list[int]] = {}
    for prompt in range(len(long)):
        for value in grams.of(prompt):
            owners.setdefault(int(value), []).append(prompt)
    mine = shingle(captions, words)
    found: dict[int, tuple[float, str]] = {}
    for i in range(len(captions)):
        hits = Counter(prompt for value in mine.of(i) for prompt in owners.get(int(value), ()))
        if not hits:
            continue
        best = max(hits, key=lambda prompt: (hits[prompt] / len(grams.of(prompt)), -prompt))
        share = hits[best] / len(grams.of(best))
        if share >= least:
            found[i] = (share, long[best])
    return found
