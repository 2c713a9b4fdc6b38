"""What a stage leaves in the Prefect run for people: a table of figures and a page with pictures."""

import re
import textwrap
from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from lightgen.stages.gallery import thumbnails
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef

PICTURES, ACROSS = 18, 6


def publish(label: str, ref: ArtifactRef, store: Store, worked: bool) -> None:
    """Write both artifacts of a stage; `worked` is False where the version was sealed before this run."""
    version = store.open(ref)
    create_table_artifact(figures(version, worked), key=f"{label}-figures", description=f"**{label}** → `{ref}`")
    described = f"what {label} made: {ref.rows:,} rows of {ref.kind}"
    create_markdown_artifact(page(label, version, worked), key=f"{label}-page", description=described)


def figures(version: Version, worked: bool) -> list[dict[str, str]]:
    """Rows in and out, rejects by reason, bytes, seconds, rate and digests, one a line."""
    reasons = dict(sorted(version.reject_reasons.items(), key=lambda item: -item[1]))
    rejected, seconds = sum(reasons.values()), version.seconds
    lines = {
        "rows in": f"{version.rows + rejected:,}",
        "rows out": f"{version.rows:,}",
        "rejected": f"{rejected:,}",
        **{f"  because {reason}": f"{count:,}" for reason, count in reasons.items()},
        "bytes": f"{version.bytes_total:,}",
        "seconds of work": f"{seconds:,.1f}",
        "rows a second": f"{(version.rows + rejected) / seconds:,.1f}" if seconds else "-",
        "in this run": "made" if worked else "found sealed, not made again",
        "version": version.ref.version,
        "fingerprint": version.ref.fingerprint,
    }
    return [{"what": what, "value": value} for what, value in lines.items()]


def page(label: str, version: Version, worked: bool) -> str:
    """Markdown: one sentence, thumbnails where the artifact shows something, and the commands to see more."""
    ref, rejected = version.ref, sum(version.reject_reasons.values())
    name = f"{ref.kind}@{ref.version[:12]} --store {ref.uri}"
    lines = [
        f"## {label}: {version.rows:,} rows of {ref.kind}" + (f", {rejected:,} rejected" if rejected else ""),
        f"{'Made in this run' if worked else 'Found sealed; nothing was computed'}. Version `{ref.version}`.",
        _pictures(thumbnails(version, PICTURES)),
        "See more:",
        f"```\nlightgen gallery {name}\nlightgen show {name}\n```",
    ]
    return "\n\n".join(line for line in lines if line)


def _pictures(thumbs: Sequence[tuple[str, str]]) -> str:
    """A table, because Prefect's page puts every picture outside a table on a line of its own."""
    cells = [(f"![]({uri})", _plain(caption)) for caption, uri in thumbs]
    if len(cells) <= 1:
        return "".join(f"{picture}\n\n{caption}" for picture, caption in cells)
    lines: list[str] = []
    for at in range(0, len(cells), ACROSS):
        group = [*cells[at : at + ACROSS], *[("", "")] * ACROSS][:ACROSS]
        lines += [_line([picture for picture, _ in group]), _line([caption for _, caption in group])]
    return "\n".join([lines[0], _line(["---"] * ACROSS), *lines[1:]])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(caption: str) -> str:
    """A caption without the characters that mean something to Markdown, in lines as short as a thumbnail is wide."""
    words = textwrap.shorten(re.sub(r"[^\w\s.,;:'%+-]", " ", caption), 72, placeholder=" ...")
    return "<br>".join(textwrap.wrap(words, 15))
