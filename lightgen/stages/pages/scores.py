"""From verdicts to figures: scores, paired differences and what they let us say."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.report import TASKS, Difference, Interval, ModelScores

Row = dict[str, Any]
# By task: share of right images of each prompt, by prompt id.
Shares = dict[str, dict[str, float]]


def shares(rows: Sequence[Row]) -> Shares:
    """Share of right images of each prompt: the unit that is drawn again in the bootstrap."""
    right: dict[str, dict[str, list[bool]]] = {}
    for row in rows:
        right.setdefault(row["task"], {}).setdefault(row["prompt_id"], []).append(row["correct"])
    return {
        task: {prompt: float(np.mean(right[task][prompt])) for prompt in sorted(right[task])}
        for task in TASKS
        if task in right
    }


def findings(differences: Sequence[Difference], prompts: int) -> list[str]:
    """What each further training changed, as far as the intervals let us tell."""
    sentences = []
    for one in differences:
        what = f"overall {one.overall.mean:+.3f}, interval {one.overall.low:+.3f} to {one.overall.high:+.3f}"
        if not one.sure:
            verdict = f"no change against {one.baseline} that these {prompts:,} prompts can show"
        else:
            verdict = f"{'better' if one.overall.mean > 0 else 'worse'} than {one.baseline}, beyond chance"
        moved = [f"{task.replace('_', ' ')} {value.mean:+.3f}" for task, value in one.tasks.items() if _sure(value)]
        alone = f" Tasks whose own interval leaves out zero: {', '.join(moved)}." if moved else ""
        sentences.append(f"{one.name}: {verdict} ({what}).{alone}")
    return sentences


def _sure(interval: Interval) -> bool:
    return not interval.low <= 0 <= interval.high
