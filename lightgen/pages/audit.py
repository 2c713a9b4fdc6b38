"""The page of an AUDIT version: whether somebody can vouch for the judge, and what was measured of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from lightgen.decisions.auditing import TEXT_IGNORED
from lightgen.operations.lineage import ancestors, roles, steps
from lightgen.pages.charts import Whisker, interval_chart
from lightgen.pages.html import render, visible
from lightgen.stages.audit import read_audit
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.audit import Audit, Example, Figure, Shown
from schemas.ref import ArtifactRef

TITLES: Final[dict[Shown, str]] = {
    "widest": "The judge is surest",
    "narrowest": "The judge is least sure",
    "disagreement": "Others see it otherwise",
}
PROBES: Final[dict[str, str]] = {
    "same": "the very picture again: its score is the same",
    "shuffled_caption": "a picture of another caption: its score is lower",
    "blurred": "the picture blurred: its score is lower",
    "jpeg": "the picture saved at the poorest quality: its score is lower",
    "text_in_image": "a picture of another caption, on which an order to the judge is written: its score is lower",
    TEXT_IGNORED: "an order that is written on a wrong picture does not raise its score",
    "mirrored": "left and right exchanged where the caption names them: its score is lower",
}
WORDS: Final[dict[str, str]] = {
    "scored": "pictures of probes that have a score at all",
    "polarity": "a question and its denial are answered differently",
    "order": "a model that sees both pictures says the same in both orders",
    "compare": "a model that sees both pictures prefers the winner in both orders",
    "agreement": "both judges prefer the same picture",
    "kappa": "the same beyond chance (Cohen)",
    "accuracy": "the judge prefers what most people prefer",
    "alpha": "people agree with each other beyond chance (Krippendorff)",
    "bias": "scores follow something that they should not depend on (rank correlation)",
}
SHARES = ("probe", "scored", "polarity", "order", "compare", "agreement", "accuracy")


@dataclass(frozen=True)
class Shot:
    """A pair on the page, with both pictures as data URIs."""

    example: Example
    winner: str
    loser: str


def headline(found: Audit) -> str:
    """The verdict, in one sentence."""
    if found.vouched:
        return "Vouched for: the judge keeps all that was asked of it."
    if not found.bounded:
        return "Measured, and not vouched for: nothing was asked of the judge."
    return f"Refused: {_list([*(_label(one) for one in found.failed), *(one.what for one in found.missing)])}."


def reasons(found: Audit) -> list[str]:
    """Each bound that is not kept, and what to do about what was not measured."""
    failed = [
        f"{_label(one)} is {one.value:.3f} ({one.low:.3f} to {one.high:.3f}, n {one.n:,}); {_asked(one)} was asked"
        for one in found.failed
    ]
    return [*failed, *(f"{one.what} was not measured: {one.fix}" for one in found.missing)]


def figure_rows(found: Audit) -> list[list[str]]:
    """A head, and a line for each figure but those of sources and hosts: for a dashboard."""
    lines = [
        [_label(one), f"{one.value:.3f} ({one.low:.3f}–{one.high:.3f})", f"{one.n:,}", _asked(one), _passed(one)]
        for one in found.figures
        if not one.name.startswith("acceptance by")
    ]
    return [["figure", "value", "n", "asked", ""], *lines]


def audit_html(version: Version, store: Store, shrink: Callable[[bytes], str]) -> str:
    """One self-contained page; `shrink` makes a data URI of a picture."""
    found = read_audit(version)
    named = {name: [one for one in found.figures if one.name == name] for name in {f.name for f in found.figures}}
    pairs = store.open(version.parent("pairs"))
    return render(
        "audit.html",
        title=f"Audit {version.ref.version[:12]}",
        version=version,
        pairs=pairs.ref,
        audit=found,
        headline=headline(found),
        reasons=reasons(found),
        probes=[(one, PROBES.get(one.group, "")) for one in named.get("probe", ())],
        others=[(one, WORDS[one.name]) for one in found.figures if one.name in WORDS],
        groups={kind: named.get(f"acceptance by {kind}", []) for kind in ("source", "host")},
        charts=charts(found),
        shots=_shots(found, pairs, store, shrink),
        titles=TITLES,
        label=_label,
        asked=_asked,
        lineage=steps(ancestors([version.ref], store), roles(store)),
    )


def charts(found: Audit) -> list[Markup]:
    """Figures with their intervals and bounds: shares from 0 to 1, and what may be below 0."""
    shares = [one for one in found.figures if one.name in SHARES]
    signed = [one for one in found.figures if one.name in ("kappa", "alpha", "bias")]
    drawn = [interval_chart("Shares", [_whisker(one) for one in shares], (0.0, 1.0))]
    return [*drawn, interval_chart("Beyond chance", [_whisker(one) for one in signed], (-1.0, 1.0))]


def _whisker(one: Figure) -> Whisker:
    tone = {True: "c2", False: "c5", None: "c0"}[one.passed]
    name = one.group if one.name == "probe" else _label(one)
    return Whisker(visible(name.replace("_", " ")), one.value, one.low, one.high, tone, one.bound)


def _shots(found: Audit, pairs: Version, store: Store, shrink: Callable[[bytes], str]) -> dict[Shown, list[Shot]]:
    """The examples of each sort with their pictures; images that were evicted are empty pictures."""
    images = [one for one in map(store.open, _images_of(pairs, store)) if not one.evicted]
    shown: dict[Shown, list[Shot]] = {}
    for shard in sorted({one.shard for one in found.examples}):
        here = [one for one in found.examples if one.shard == shard]
        files = _files(images, shard, {id for one in here for id in (one.winner_id, one.loser_id)})
        for one in here:
            uris = [shrink(files.get(id, b"")) for id in (one.winner_id, one.loser_id)]
            shown.setdefault(one.shown, []).append(Shot(one, *uris))
    order = [one.pair_id for one in found.examples]
    return {
        sort: sorted(shown[sort], key=lambda shot: order.index(shot.example.pair_id))
        for sort in TITLES
        if sort in shown
    }


def _images_of(pairs: Version, store: Store) -> list[ArtifactRef]:
    """The versions of images that pairs name: parents of theirs, or of the scores that they were made from."""
    scores = [store.open(ref) for ref in pairs.parents if ref.kind == "scores"]
    every = [ref for version in (pairs, *scores) for ref in version.parents if ref.kind == "images"]
    return list({ref.version: ref for ref in every}.values())


def _files(images: Sequence[Version], shard: int, ids: set[str]) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    for version in images:
        members = version.members_of(shard, ids)
        found |= {id: next(data for name, data in each.items() if name != "json") for id, each in members.items()}
    return found


def _label(one: Figure) -> str:
    return one.label.replace("_", " ")


def _asked(one: Figure) -> str:
    if one.bound is None:
        return "-"
    return f"{'at most' if one.setting.startswith('most_') else 'at least'} {one.bound:g}"


def _passed(one: Figure) -> str:
    return {True: "kept", False: "not kept", None: ""}[one.passed]


def _list(words: Sequence[str]) -> str:
    """`a, b and c`; of many the first three and how many there are."""
    shown = [*words[:3], f"{len(words) - 3} more"] if len(words) > 3 else list(words)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
