"""What a dataset card and Croissant say alike: what the rows are, how they were made, whose they are."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from lightgen.operations.lineage import ancestors
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import Kind

# What is counted over all rows, by columns; a kind without such columns has none.
COUNTED = {
    "sources": ("source", "licence"),
    "generators": ("generator",),
    "sizes": ("width", "height"),
    "sides": ("winner_generator", "loser_generator"),
}
MEMBERS = ("generator", "scorer", "captioner", "encoder", "vae")  # as stages call them in their settings
UNSAID = ("", "none", "unknown")  # licences that say nothing
# Licences by the hub's word, and SPDX's. What is not here is `other`.
SPDX = {
    "apache-2.0": "Apache-2.0", "mit": "MIT", "cc0-1.0": "CC0-1.0", "cc-by-2.0": "CC-BY-2.0", "cc-by-2.5": "CC-BY-2.5",
    "cc-by-3.0": "CC-BY-3.0", "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-3.0": "CC-BY-SA-3.0", "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-2.0": "CC-BY-NC-2.0", "cc-by-nc-3.0": "CC-BY-NC-3.0", "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc-by-nd-4.0": "CC-BY-ND-4.0", "cc-by-nc-nd-4.0": "CC-BY-NC-ND-4.0", "cc-by-nc-sa-4.0": "CC-BY-NC-SA-4.0",
    "odc-by": "ODC-By-1.0", "odbl": "ODbL-1.0", "pddl": "PDDL-1.0", "bsd-3-clause": "BSD-3-Clause",
    "gpl-3.0": "GPL-3.0",
}  # fmt: skip


Format = Literal["parquet", "webdataset"]


@dataclass(frozen=True)
class Export:
    """How a version leaves. `licence`, `by` and `url` are the publisher's words; empty: nothing is said."""

    format: Format = "parquet"
    split: str = "train"
    file_bytes: int = 500 << 20
    name: str = ""
    licence: str = ""
    by: str = ""
    url: str = ""


@dataclass(frozen=True)
class Words:
    """What a kind of artifact is to a stranger."""

    title: str
    row: str
    lacks: str
    tasks: tuple[str, ...] = ("text-to-image",)


KINDS: dict[Kind, Words] = {
    "captions": Words(
        "Captions", "One row is one record of a corpus with its caption, whose Unicode was repaired.",
        "Nothing was chosen yet: repeats are in, and captions that give evaluation prompts away are in too.",
    ),
    "prompts": Words(
        "Prompts", "One row is one caption that was chosen to be drawn, or that was written for an image.",
        "There are no pictures. What was refused is not here: repeats, and what was too like an evaluation prompt.",
    ),
    "links": Words(
        "Links", "One row is the address of a picture on the web, with its caption and what the corpus says of it.",
        "There are no pictures, and an address may lead nowhere by now. Captions are as they were found.",
    ),
    "images": Words(
        "Images", "One row is one picture with the caption that it was drawn or found for.",
        "Rules over scores did not decide about these pictures: blank ones and repeats may be among them.",
    ),
    "kept": Words(
        "Kept images", "One row is one picture that passed the rules, with its caption and its scores.",
        "Pictures that broke a rule, and repeats, are not here.",
    ),
    "scores": Words(
        "Scores", "One row is one picture, named by its id, with the raw answers of one scorer.",
        "There are no pictures. An answer that is null could not be had: `unscored` says why.",
    ),
    "pairs": Words(
        "Preference pairs", "One row is two pictures of one caption, of which one is preferred.",
        "Ties and pictures without a partner are not here. The preference is a judge's, and that judge is a program.",
    ),
    "texts": Words(
        "Text embeddings", "One row is the embedding of one prompt, as bytes.", "There are no pictures.",
        ("text-to-image", "feature-extraction"),
    ),
    "features": Words(
        "Latents", "One row is the latents of one picture, as bytes: means and deviations of a VAE.",
        "There are no pictures, and no embeddings of captions.", ("text-to-image", "feature-extraction"),
    ),
    "pair_features": Words(
        "Latents of pairs", "One row is the latents of winner and loser of one pair, as bytes.",
        "There are no pictures, and no embeddings of captions.", ("text-to-image", "feature-extraction"),
    ),
    "reference": Words(
        "Errors of a reference", "One row is how far a reference model errs at one draw of noise for one pair.",
        "There are no pictures.",
    ),
    "report": Words(
        "Evaluation", "One row is one judged picture: right or wrong, and why.",
        "There are no pictures. Captions are evaluation prompts: do not train on them.",
    ),
    "audit": Words("Audit", "One row is one measurement of what a judge is worth.", "There are no pictures.", ()),
}  # fmt: skip


@dataclass(frozen=True)
class File:
    """A data file of the folder: its path in it, its bytes, their digest, its rows, what these take in memory."""

    path: str
    bytes: int
    sha256: str
    rows: int
    held: int
    counts: dict[str, list[list]] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """All that is said of an exported version."""

    version: Version
    name: str
    words: Words
    files: list[File]
    lineage: list[Version]
    counts: dict[str, list[tuple[tuple, int]]]
    licence: str
    licences: list[str]
    how: Export

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.bytes for file in self.files)

    @property
    def pattern(self) -> str:
        """What finds all data files and nothing else."""
        return f"data/{self.how.split}-*.{self.files[0].path.rpartition('.')[2]}"

    @property
    def date(self) -> str:
        """The day of the last work on it; the same for every export of the version."""
        return self.version.last_work.date().isoformat()

    @property
    def summary(self) -> str:
        """Two or three plain sentences."""
        return f"{self.rows:,} rows. {self.words.row} {self.words.lacks}"

    @property
    def made(self) -> str:
        """How the rows came to be, stage by stage."""
        return "; ".join(map(_step, self.lineage))

    @property
    def scorers(self) -> list[str]:
        """What gave the scores that are here, or that decided about these rows."""
        near = {self.version.ref.version, *(ref.version for ref in self.version.parents)}
        return sorted({used(one) for one in self.lineage if one.ref.version in near and one.plan.stage == "score"})


def facts_of(version: Version, store: Store, files: Sequence[File], how: Export) -> Facts:
    """What the store knows of `version`, and what was counted while its rows were written."""
    counts: dict[str, Counter] = {}
    for file in files:
        for name, values in file.counts.items():
            counts.setdefault(name, Counter()).update({tuple(key): count for *key, count in values})
    ordered = {name: sorted(c.items(), key=lambda item: (-item[1], str(item[0]))) for name, c in counts.items()}
    licences = sorted({key[1] or "unknown" for key, _ in ordered.get("sources", [])})
    name = how.name or f"lightgen-{version.ref.kind.replace('_', '-')}-{version.ref.version[:12]}"
    return Facts(
        version, name, KINDS[version.ref.kind], list(files), ancestors([version.ref], store), ordered,
        hub_licence(licences, how.licence), [how.licence] if how.licence else licences, how,
    )  # fmt: skip


def hub_licence(found: Sequence[str], given: str) -> str:
    """The hub's word for the licence that is given, or that all rows have; else `other` or `unknown`."""
    said = {one.lower() for one in ([given] if given else found)}
    if said <= set(UNSAID):
        return "unknown"
    (only, *more) = sorted(said)
    return only if not more and only in SPDX else "other"


def used(version: Version) -> str:
    """The members that did the work of a stage, by kind: its generator, scorer, captioner or encoders."""
    members = [version.plan.config.get(name) for name in MEMBERS]
    return ", ".join(str(one["kind"]) for one in members if isinstance(one, dict) and "kind" in one)


def _step(version: Version) -> str:
    plan, rows = version.plan, version.manifest.rows
    how = [*filter(None, [used(version)]), f"revision {plan.revision}", f"seed {plan.seed}"]
    said = [f"{rows.taken:,} rows in", f"{rows.out:,} out", *filter(None, [refused(version)])]
    return f"{plan.stage} ({', '.join(how)}): {', '.join(said)}"


def refused(version: Version) -> str:
    """Rows that a stage refused, by reason."""
    ordered = sorted(version.reject_reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)


def size_category(rows: int) -> str:
    """The hub's word for so many rows."""
    edges = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "n>1B"]
    return edges[min(max(len(str(rows)) - 3, 0), len(edges) - 1)]


def slug(text: str) -> str:
    """`text` as the hub takes names: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
