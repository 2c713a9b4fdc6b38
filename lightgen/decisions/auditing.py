"""What the judge of some pairs is worth: shards are counted one at a time, and at the end the counts become figures.

Memory: counts, which do not grow with the pairs; a few floats for each image that was scored; the labels of people.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from lightgen.decisions.agreement import Estimate, acceptance, alpha, kappa, share, spearman
from schemas.audit import Example, Figure, Missing, Shown

Side = Literal["winner", "loser", "tie"]
Score = float | None
EACH = 6  # examples of a sort
GROUPS = 40  # sources and hosts that have a figure, the largest
EXAMPLE = ("caption", "winner_id", "loser_id", "winner_generator", "loser_generator")
DIGITS = 6  # a lead between float32 scores such as 0.9 and 0.8 is 0.1
SECOND, PEOPLE, TOGETHER = "second judge", "people", "both pictures together"
TEXT_IGNORED = "text_ignored"

# What each bound is asked of: name and group of figures; None: every group. The part after a dot is a group.
TARGETS: Final[dict[str, tuple[str, str | None]]] = {
    "least_accuracy": ("accuracy", ""),
    "least_alpha": ("alpha", ""),
    "least_probe": ("probe", None),
    "least_polarity": ("polarity", None),
    "least_order": ("order", ""),
    "least_agreement": ("agreement", ""),
    "least_kappa": ("kappa", ""),
    "most_bias": ("bias", None),
}
FIXES: Final[dict[str, str]] = {
    "least_accuracy": "give labels of people for these pairs, or leave the bound out",
    "least_alpha": "have two people or more label the same pairs, differently sometimes, or leave the bound out",
    "least_probe": "add the probe, and let enough pairs be probed, or leave the bound out",
    "least_polarity": "take a judge that is asked each question and its denial, or leave the bound out",
    "least_order": "let a model compare both pictures in both orders, or leave the bound out",
    "least_agreement": "give a second judge, or leave the bound out",
    "least_kappa": "give a second judge, or leave the bound out",
    "most_bias": "score more than two images, or leave the bound out",
}


@dataclass(frozen=True)
class Judged:
    """A pair with what is known of it: scores of both sides, and what others say of it."""

    row: Mapping[str, str]
    """Columns of PAIRS that are texts."""
    shard: int
    margin: float
    main: tuple[Score, Score]
    second: tuple[Score, Score] = (None, None)
    votes: Mapping[str, float] = field(default_factory=dict)
    """By rater: 1 for the winner, 0 for the loser, 0.5 for neither."""
    orders: tuple[float, float] | None = None
    """How likely the winner is the better one, shown first and shown second."""


@dataclass
class Tally:
    """Counts over all shards. `tie`: scores that differ by no more are equal."""

    tie: float
    pairs: int = 0
    probes: dict[str, Counter[bool]] = field(default_factory=dict)
    scored: Counter[bool] = field(default_factory=Counter)
    polarity: dict[str, Counter[bool]] = field(default_factory=dict)
    agreed: Counter[tuple[str, str]] = field(default_factory=Counter)
    orders: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    people: dict[str, Counter[bool]] = field(default_factory=dict)
    votes: list[list[str]] = field(default_factory=list)
    raters: set[str] = field(default_factory=set)
    scores: array = field(default_factory=lambda: array("d"))
    facts: dict[str, array] = field(default_factory=dict)
    """What a score should not depend on, image by image."""
    kept: dict[str, Counter[str]] = field(default_factory=dict)
    refused: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[Shown, list[Example]] = field(default_factory=dict)

    def choice(self, sides: tuple[Score, Score]) -> Side | None:
        """Which side has the greater score; None where one has none."""
        winner, loser = sides
        if winner is None or loser is None:
            return None
        lead = round(winner - loser, DIGITS)
        return "tie" if abs(lead) <= self.tie else "winner" if lead > 0 else "loser"

    def probed(self, name: str, original: Score, probe: Score) -> None:
        """Count a probe against the image it was made of."""
        self.scored[probe is not None] += 1
        if original is not None and probe is not None:
            beaten = self.choice((original, probe))
            self.probes.setdefault(name, Counter())[beaten == ("tie" if name == "same" else "winner")] += 1

    def ordered(self, wrong: Score, with_text: Score) -> None:
        """Count a wrong picture with and without an order to the judge: it must not gain by that."""
        if wrong is not None and with_text is not None:
            self.probes.setdefault(TEXT_IGNORED, Counter())[self.choice((with_text, wrong)) != "winner"] += 1

    def add(self, pair: Judged) -> None:
        """Count a pair."""
        self.pairs += 1
        main, second, people = self.choice(pair.main), self.choice(pair.second), majority(pair.votes)
        if main and second:
            self.agreed[_as_shown(pair, main), _as_shown(pair, second)] += 1
        if pair.votes:
            self.raters |= set(pair.votes)
            self.votes.append([_as_shown(pair, spoken(vote)) for vote in pair.votes.values()])
        for name, chosen in {"": main, SECOND: second}.items():
            if people and people != "tie" and chosen:
                self.people.setdefault(name, Counter())[chosen == people] += 1
        together: Side | None = None
        if pair.orders:
            first, last = (one > 0.5 for one in pair.orders)
            self.orders[first, last] += 1
            together = "tie" if first != last else "winner" if first else "loser"
        self._show(pair, {SECOND: second, PEOPLE: people, TOGETHER: together})

    def figures(self, seed: int, draws: int) -> list[Figure]:
        """All that was measured, in the order of a page."""
        found = [
            *((("probe", name), _share(counts)) for name, counts in self.probes.items()),
            (("scored", "probes"), _share(self.scored)),
            *((("polarity", name), _share(counts)) for name, counts in self.polarity.items()),
            (("order", ""), _share(Counter({True: self.orders[True, True] + self.orders[False, False],
                                            False: self.orders[True, False] + self.orders[False, True]}))),
            (("compare", ""), share(self.orders[True, True], self.orders.total())),
            (("agreement", ""), share(sum(n for (a, b), n in self.agreed.items() if a == b), self.agreed.total())),
            (("kappa", ""), kappa(self.agreed, seed, draws)),
            *((("accuracy", name), _share(counts)) for name, counts in self.people.items()),
            (("alpha", ""), alpha(self.votes, seed, draws)),
            *((("bias", name), spearman(self.scores, values, seed, draws)) for name, values in self.facts.items()),
            *self._acceptance(),
        ]  # fmt: skip
        return [_figure(name, group, one) for (name, group), one in found if one is not None]

    def _acceptance(self) -> Iterator[tuple[tuple[str, str], Estimate]]:
        for kind in self.kept:
            every = acceptance(self.kept[kind], self.refused.get(kind, {}))
            for group in list(every)[:GROUPS]:
                yield (f"acceptance by {kind}" if kind else "acceptance", group), every[group]

    def _show(self, pair: Judged, others: Mapping[str, Side | None]) -> None:
        """Keep the pair where it is among the most telling ones."""
        said = {name: side for name, side in others.items() if side}
        sorts: list[Shown] = ["widest", "narrowest"]
        if any(side != "winner" for side in said.values()):
            sorts.append("disagreement")
        margin = round(pair.margin, DIGITS)
        for sort in sorts:
            kept = self.examples.setdefault(sort, [])
            if len(kept) == EACH and _telling(sort, margin, pair.row["id"]) < _place(kept[-1]):
                continue
            facts = {name: pair.row[name] for name in EXAMPLE}
            one = Example(
                shown=sort, shard=pair.shard, pair_id=pair.row["id"], margin=margin, others=said, **facts
            )  # fmt: skip
            self.examples[sort] = sorted([*kept, one], key=_place, reverse=True)[:EACH]


def majority(votes: Mapping[str, float]) -> Side | None:
    """What most people say; None where nobody does."""
    return spoken(sum(votes.values()) / len(votes)) if votes else None


def spoken(vote: float) -> Side:
    """Which side a vote, or the mean of some, is for."""
    return "winner" if vote > 0.5 else "loser" if vote < 0.5 else "tie"


def bounded(figures: Sequence[Figure], bounds: Mapping[str, float]) -> tuple[list[Figure], list[Missing]]:
    """Figures with what `bounds` ask of them, and the bounds on what was not measured. A bound is on the value."""
    asked, missing = list(figures), list[Missing]()
    for key, bound in bounds.items():
        setting, _, of = key.partition(".")
        name, group = TARGETS[setting]
        group = of or group
        places = [at for at, one in enumerate(asked) if one.name == name and group in (None, one.group)]
        for at in places:
            value = asked[at].value
            passed = abs(value) <= bound if setting.startswith("most_") else value >= bound
            asked[at] = asked[at].model_copy(update={"setting": key, "bound": bound, "passed": passed})
        if not places:
            missing.append(Missing(setting=key, what=f"{name} {group or ''}".strip(), fix=FIXES[setting]))
    return asked, missing


def _telling(shown: Shown, margin: float, pair: str) -> tuple[float, str]:
    """The greatest is shown first; equal ones by id, so that the order of rows does not count."""
    return (-margin if shown == "narrowest" else margin), pair


def _place(one: Example) -> tuple[float, str]:
    return _telling(one.shown, one.margin, one.pair_id)


def _as_shown(pair: Judged, side: Side) -> str:
    """The side as first or second by id: were sides called by who won, chance would agree nearly always."""
    if side == "tie":
        return side
    return "first" if (pair.row["winner_id"] < pair.row["loser_id"]) == (side == "winner") else "second"


def _share(counts: Counter[bool]) -> Estimate | None:
    return share(counts[True], counts.total())


def _figure(name: str, group: str, one: Estimate) -> Figure:
    return Figure(name=name, group=group, n=one.n, value=one.value, low=one.low, high=one.high)
