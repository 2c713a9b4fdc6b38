"""Where a version came from: every ancestor with what went in, what was refused, and what it took."""

from dataclasses import dataclass
from graphlib import TopologicalSorter

from lightgen.storage.store import KINDS, Store
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef


@dataclass(frozen=True)
class Step:
    """One stage run of the lineage, as a page shows it."""

    stage: str
    label: str
    ref: ArtifactRef
    rows_in: int
    rows_out: int
    reasons: dict[str, int]
    seconds: float
    bytes_total: int

    @property
    def rejected(self) -> int:
        """Rows refused."""
        return sum(self.reasons.values())

    def cost(self, usd_per_hour: float) -> float:
        """Price of its wall time on one machine."""
        return self.seconds / 3600 * usd_per_hour


def ancestors(refs: list[ArtifactRef], store: Store) -> list[Version]:
    """`refs` and all they were made from, each once, parents first."""
    found: dict[str, Version] = {}
    waiting = list(refs)
    while waiting:
        ref = waiting.pop()
        if ref.version not in found:
            found[ref.version] = store.open(ref)
            waiting.extend(found[ref.version].parents)
    graph = {name: [parent.version for parent in version.parents] for name, version in found.items()}
    return [found[name] for name in TopologicalSorter(graph).static_order()]


def roles(store: Store) -> dict[str, str]:
    """What versions are for, by version: the role of their newest publication."""
    return {entry.version: entry.role for kind in KINDS for entry in store.log(kind) if entry.role}


def steps(versions: list[Version], names: dict[str, str]) -> list[Step]:
    """The table of a lineage; `names` gives some versions a name of their own."""
    return [step(version, names.get(version.ref.version, "")) for version in versions]


def step(version: Version, label: str = "") -> Step:
    """One line of it."""
    reasons = dict(sorted(version.reject_reasons.items(), key=lambda item: -item[1]))
    size = version.plan.config.get("size_px")
    return Step(
        stage=version.plan.stage,
        label=label or (f"{size} px" if size else ""),
        ref=version.ref,
        rows_in=version.rows + sum(reasons.values()),
        rows_out=version.rows,
        reasons=reasons,
        seconds=version.seconds,
        bytes_total=version.bytes_total,
    )
