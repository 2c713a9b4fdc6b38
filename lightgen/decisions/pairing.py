"""Preference pairs from scores: which two images of a prompt make a pair, and why the others make none.

As published the winner is the teacher's or a real image and the loser the student's: `winner` names a generator, and
every image of another generator meets one of its images. With `winner: any` the images of a prompt meet each other, so
that nothing but what the scorer sees sets them apart. With `gap` the scores decide, and not whether images are right:
a lead smaller than that either way is a tie.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import Field

from lightgen.config import Config
from lightgen.decisions.columns import UNSCORED
from lightgen.seeds import content_id
from lightgen.storage.shards import Reject

ANY = "any"
# (winner right, loser right) -> why the pair teaches nothing
REASONS = {(True, True): "loser_right", (False, True): "winner_wrong", (False, False): "both_wrong"}
GAP_DIGITS = 6  # a gap between float32 scores such as 0.9 and 0.8 is 0.1

CANDIDATES = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "prompt_id", "caption", "generator")),
        pa.field("index", pa.int64(), nullable=False, metadata={"is": "number of the image in its prompt"}),
        pa.field("host", pa.string(), nullable=False, metadata={"is": "where it was fetched from, or empty"}),
        pa.field("source", pa.string(), nullable=False, metadata={"is": "corpus of its link, or empty"}),
        pa.field("score", pa.float64(), metadata={"is": "how well it shows the caption; null: not scored"}),
        pa.field("right", pa.bool_(), metadata={"is": "whether it passes; null: not judged"}),
        pa.field(UNSCORED, pa.string(), nullable=False, metadata={"is": "why it has no score; empty if it has"}),
    ]
)
PAIRS = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "prompt_id", "caption")),
        *(pa.field(name, pa.string(), nullable=False, metadata={"is": "image"}) for name in ("winner_id", "loser_id")),
        *(pa.field(name, pa.float64()) for name in ("winner_score", "loser_score", "margin")),
        *(pa.field(name, pa.string(), nullable=False) for name in ("winner_generator", "loser_generator")),
        *(pa.field(name, pa.string(), nullable=False, metadata={"is": "of the winner"}) for name in ("host", "source")),
    ]
)


class PairRules(Config):
    """Whose images are compared, and what makes one the better."""

    winner: str = Field(
        default=ANY, min_length=1, description="the generator whose images win; any: images of a prompt meet each other"
    )
    gap: float | None = Field(
        default=None, gt=0, description="least lead in score; null: a right image wins over a wrong one"
    )
    per_prompt: int | None = Field(
        default=None, ge=1, description="pairs of a prompt, those of the largest margins; null: all that it gives"
    )


@dataclass(frozen=True)
class Pairing:
    """Pairs (PAIRS) in order of prompt id, and a reject for each pair that could have been."""

    pairs: pa.Table
    rejects: list[Reject]

    @property
    def rows_in(self) -> int:
        """Pairs and rejects."""
        return self.pairs.num_rows + len(self.rejects)


class _Image(NamedTuple):
    """A row of CANDIDATES."""

    id: str
    prompt_id: str
    caption: str
    generator: str
    index: int
    host: str
    source: str
    score: float | None
    right: bool | None
    unscored: str


_Outcome = dict[str, Any] | Reject


def make_pairs(candidates: pa.Table, rules: PairRules) -> Pairing:
    """Pairs of the images of each prompt; `candidates` has the columns of CANDIDATES, in any order of rows.

    - A named winner: every other image meets image `index` modulo their number of the winner's; one pair each. With
      `gap` the worst of the others meets the best of the winner's, the second worst the second best, and so on. Where
      a side is missing, each image of the other gives a reject.
    - `any`: the k-th right image meets the k-th wrong one, by generator and index; with `gap` the k-th best meets the
      k-th worst. Of n images come n // 2 pairs, at least one, made or refused.

    An image without a verdict is not taken for a bad one: its pair is refused for the reason it has none. No prompt
    needs another, so shards can be paired one at a time: some 20 us and 1 kB an image.
    """
    columns = (candidates[name].to_pylist() for name in CANDIDATES.names)
    images = sorted(map(_Image, *columns), key=attrgetter("prompt_id", "generator", "index", "id"))
    pairs: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for _, group in groupby(images, key=attrgetter("prompt_id")):
        outcomes = list(_outcomes(list(group), rules))
        rejects += [one for one in outcomes if isinstance(one, Reject)]
        made = [one for one in outcomes if not isinstance(one, Reject)]
        kept = {one["id"] for one in sorted(made, key=_by_margin)[: rules.per_prompt]}
        pairs += [one for one in made if one["id"] in kept]
        rejects += [_smaller(one, len(made), rules) for one in made if one["id"] not in kept]
    return Pairing(pa.Table.from_pylist(pairs, schema=PAIRS), rejects)


def _by_margin(pair: dict[str, Any]) -> tuple[float, str]:
    """Orders pairs, the largest margin first."""
    return -(pair["margin"] or 0.0), pair["id"]


def _smaller(pair: dict[str, Any], made: int, rules: PairRules) -> Reject:
    detail = f"margin {pair['margin'] or 0.0:.4g}; of {made} pairs of the prompt {rules.per_prompt} are kept"
    return Reject(pair["id"], "smaller_margin", detail, pair)


def _outcomes(images: list[_Image], rules: PairRules) -> Iterator[_Outcome]:
    """Pairs and rejects of one prompt."""
    if rules.winner != ANY:
        return _against(images, rules)
    return _right_over_wrong(images, rules) if rules.gap is None else _best_over_worst(images, rules)


def _against(images: list[_Image], rules: PairRules) -> Iterator[_Outcome]:
    winners = [image for image in images if image.generator == rules.winner]
    losers = [image for image in images if image.generator != rules.winner]
    if not winners or not losers:
        reason = "no_loser" if winners else "no_winner"
        detail = f"no image of {'another generator' if winners else rules.winner}"
        yield from (Reject(content_id("unpaired", one.id), reason, detail, one._asdict()) for one in images)
        return
    if rules.gap is not None:
        winners, losers = _ranked(winners), _ranked(losers, worst_first=True)
    for place, loser in enumerate(losers):
        yield _outcome(winners[(loser.index if rules.gap is None else place) % len(winners)], loser, rules)


def _ranked(images: list[_Image], worst_first: bool = False) -> list[_Image]:
    """By score, those without one at the end."""
    scored = [image for image in images if _has_score(image)]
    sign = 1 if worst_first else -1
    scored.sort(key=lambda image: (sign * (image.score or 0.0), image.id))
    return [*scored, *(image for image in images if not _has_score(image))]


def _right_over_wrong(images: list[_Image], rules: PairRules) -> Iterator[_Outcome]:
    right, wrong = ([image for image in images if image.right is passes] for passes in (True, False))
    pairs = list(zip(right, wrong, strict=False))
    yield from (_outcome(winner, loser, rules) for winner, loser in pairs)
    reason = "too_few_wrong" if len(right) > len(wrong) else "too_few_right"
    detail = f"of {len(images)} samples {len(right)} right, {len(wrong)} wrong"
    yield from _unpaired(images, len(pairs), reason, detail, rules)


def _best_over_worst(images: list[_Image], rules: PairRules) -> Iterator[_Outcome]:
    ranked = [image for image in _ranked(images) if _has_score(image)]
    made = len(ranked) // 2
    for winner, loser in zip(ranked[:made], reversed(ranked), strict=False):
        yield _outcome(winner, loser, rules)
    yield from _unpaired(images, made, "too_few_scores", f"of {len(images)} samples {len(ranked)} have a score", rules)


def _unpaired(images: list[_Image], made: int, reason: str, detail: str, rules: PairRules) -> Iterator[Reject]:
    """One reject for each further pair that the prompt could have given."""
    reason = next((_why(image) for image in images if not _judged(image, rules)), reason)
    row = {"prompt_id": images[0].prompt_id, "caption": images[0].caption, "images": [image.id for image in images]}
    for place in range(made, max(1, len(images) // 2)):
        yield Reject(content_id("unpaired", images[0].prompt_id, place), reason, detail, row)


def _outcome(winner: _Image, loser: _Image, rules: PairRules) -> _Outcome:
    sides = {"winner": winner, "loser": loser}
    row: dict[str, Any] = {
        "id": content_id("pair", winner.id, loser.id),
        "prompt_id": loser.prompt_id,
        "caption": loser.caption,
        **{f"{side}_{name}": getattr(of, name) for name in ("id", "score", "generator") for side, of in sides.items()},
        "margin": _margin(winner, loser), "host": winner.host, "source": winner.source,
    }  # fmt: skip
    reason = _fault(winner, loser, rules)
    if reason is None:
        return row
    detail = "; ".join(f"{side}: {_said(image)}" for side, image in sides.items())
    return Reject(row["id"], reason, detail, row)


def _fault(winner: _Image, loser: _Image, rules: PairRules) -> str | None:
    """Why a pair teaches nothing; None keeps it."""
    for image in (winner, loser):
        if not _judged(image, rules):
            return _why(image)
    if rules.gap is None:
        return REASONS.get((bool(winner.right), bool(loser.right)))
    lead = _margin(winner, loser) or 0.0
    return None if lead >= rules.gap else "tie" if lead > -rules.gap else "winner_worse"


def _margin(winner: _Image, loser: _Image) -> float | None:
    """How far the winner is ahead in score; None where one has no score."""
    if winner.score is None or loser.score is None:
        return None
    return round(winner.score - loser.score, GAP_DIGITS)


def _judged(image: _Image, rules: PairRules) -> bool:
    if rules.gap is None:
        return image.right is not None
    return _has_score(image)


def _has_score(image: _Image) -> bool:
    return image.score is not None and math.isfinite(image.score)


def _why(image: _Image) -> str:
    return image.unscored or UNSCORED


def _said(image: _Image) -> str:
    if image.unscored:
        return image.unscored
    verdict = {True: "right", False: "wrong", None: "no verdict"}[image.right]
    return verdict if image.score is None else f"{verdict}, score {image.score:.4g}"
