"""Of which hosts links still have their pictures, and what became of the others."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lightgen.storage.version import Version


@dataclass(frozen=True)
class HostLine:
    """One host: links tried, pictures got, and the reason that most of the others have."""

    host: str
    tried: int
    got: int
    commonest: str

    @property
    def share(self) -> float:
        """Pictures of a link."""
        return self.got / self.tried


def survival(got: Iterable[str], failed: Iterable[tuple[str, str]], most: int | None = None) -> list[HostLine]:
    """The hosts with most links first, `most` of them; `got` are hosts of pictures, `failed` are (host, reason).

    Memory: a count for each host, and for each of its reasons.
    """
    good, bad, reasons = Counter(got), Counter[str](), dict[str, Counter[str]]()
    for host, reason in failed:
        bad[host] += 1
        reasons.setdefault(host, Counter())[reason] += 1
    lines = [HostLine(host, good[host] + bad[host], good[host], _commonest(reasons.get(host))) for host in good | bad]
    return sorted(lines, key=lambda line: (-line.tried, line.host))[:most]


def survival_of(version: Version, most: int | None = None) -> list[HostLine]:
    """The same for a version made by `fetch`; of its rows only the hosts are read."""
    return survival(_hosts(version), _failures(version), most)


def _commonest(reasons: Counter[str] | None) -> str:
    return min(reasons, key=lambda one: (-reasons[one], one)) if reasons else ""


def _hosts(version: Version) -> Iterator[str]:
    for shard in range(version.n_shards):
        yield from version.table(shard, columns=["host"])["host"].to_pylist()


def _failures(version: Version) -> Iterator[tuple[str, str]]:
    for shard in range(version.n_shards):
        rejects = version.rejects(shard)
        rows: Sequence[str] = rejects["row"].to_pylist()
        yield from zip((json.loads(row)["host"] for row in rows), rejects["reason"].to_pylist(), strict=True)
