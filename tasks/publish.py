"""What a stage leaves in the Prefect run for people: a table of figures and a page with pictures."""

import re
import textwrap
from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from lightgen.pages.audit import figure_rows, reasons
from lightgen.pages.audit import headline as audit_headline
from lightgen.pages.curves import curve_sheet, training_figures
from lightgen.pages.evaluation import read_published
from lightgen.pages.gallery import thumbnails
from lightgen.pages.report import headline
from lightgen.pages.rows import shown_table
from lightgen.pages.scores import published_lines, published_title, score_table
from lightgen.pages.selected import diversity_facts, novelty_by_rank, novelty_charts, summary_of
from lightgen.pages.sheet import Chart, sheet_of
from lightgen.pages.tokens import token_facts
from lightgen.stages import select
from lightgen.stages.audit import read_audit
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef, Kind
from schemas.report import PublishedTable, Report
from tasks.reporting import forgiven

PICTURES, ACROSS = 18, 6

# What a row of each kind is, in words: "338 rows of checkpoint" tells nobody anything.
NOUNS: dict[Kind, str] = {
    "captions": "captions",
    "prompts": "prompts",
    "links": "links",
    "images": "images",
    "scores": "scored images",
    "sketches": "signed captions",
    "texts": "encoded captions",
    "kept": "images kept",
    "vae": "tensors of the image encoder",
    "features": "encoded images",
    "checkpoint": "tensors",
    "pairs": "preference pairs",
    "pair_features": "encoded pairs",
    "reference": "errors of the reference on pairs",
    "report": "judged images",
    "audit": "figures about a judge",
}


def publish(label: str, ref: ArtifactRef, store: Store, worked: bool) -> None:
    """Write both artifacts of a stage; `worked` is False where the version was sealed before this run."""
    version = store.open(ref)
    lines, text = figures(version, worked), page(label, version, worked, store)
    with forgiven(f"figures and page of {label}"):
        create_table_artifact(lines, key=f"{label}-figures", description=f"**{label}** → `{ref}`")
        create_markdown_artifact(text, key=f"{label}-page", description=f"what {label} made: {_made(version)}")


def figures(version: Version, worked: bool) -> list[dict[str, str]]:
    """What matters of its kind, then bytes, seconds and digests, one a line."""
    lines = {
        **_figures_of_kind(version),
        "bytes": f"{version.bytes_total:,}",
        "seconds of work": f"{version.seconds:,.1f}",
        "in this run": "made" if worked else "found sealed, not made again",
        "version": version.ref.version,
        "fingerprint": version.ref.fingerprint,
    }
    return [{"what": what, "value": value} for what, value in lines.items()]


def page(label: str, version: Version, worked: bool, store: Store) -> str:
    """Markdown: one sentence, what the kind has to show, and the commands to see more."""
    ref, rejected = version.ref, sum(version.reject_reasons.values())
    name = f"{ref.kind}@{ref.version[:12]} --store {ref.uri}"
    lines = [
        f"## {label}: {_made(version)}" + (f", {rejected:,} rejected" if rejected else ""),
        f"{'Made in this run' if worked else 'Found sealed; nothing was computed'}. Version `{ref.version}`.",
        _pictures(thumbnails(version, PICTURES)),
        *_shown_of_kind(version, store, worked),
        "See more:",
        f"```\nlightgen gallery {name}\nlightgen show {name}\n```",
    ]
    return "\n\n".join(line for line in lines if line)


def _made(version: Version) -> str:
    """What a version is, in a few words."""
    if version.ref.kind == "checkpoint":
        steps = training_figures(version)["steps"]
        return f"a student after {steps} steps, {version.rows:,} tensors"
    return f"{version.rows:,} {NOUNS[version.ref.kind]}"


def _figures_of_kind(version: Version) -> dict[str, str]:
    """Training is told by steps and loss, a report by scores; rows in and out are for stages that read rows."""
    if version.ref.kind == "checkpoint":
        return {**training_figures(version), "tensors": f"{version.rows:,}"}
    if version.ref.kind == "vae":
        return {"tensors": f"{version.rows:,}"}
    if version.ref.kind == "report":
        return _report_figures(version)
    if version.ref.kind == "audit":
        return {one[0]: one[1] for one in figure_rows(read_audit(version))[1:]}
    return _row_figures(version)


def _row_figures(version: Version) -> dict[str, str]:
    reasons = dict(sorted(version.reject_reasons.items(), key=lambda item: -item[1]))
    rejected, seconds = sum(reasons.values()), version.seconds
    return {
        "rows in": f"{version.rows + rejected:,}",
        "rows out": f"{version.rows:,}",
        "rejected": f"{rejected:,}",
        **{f"  because {reason}": f"{count:,}" for reason, count in reasons.items()},
        "rows a second": f"{(version.rows + rejected) / seconds:,.1f}" if seconds else "-",
    }


def _report_figures(version: Version) -> dict[str, str]:
    report = _report(version)
    return {
        **{f"{name}, overall": overall for name, overall, *_ in score_table(report)[1:]},
        "test prompts": f"{sum(report.prompts.values()):,}",
        "images a prompt": f"{report.samples_per_prompt:,}",
        "judged images": f"{version.rows:,}",
        "verdict": report.verdict,
    }


def _shown_of_kind(version: Version, store: Store, worked: bool) -> list[str]:
    """Texts, and what is told of them where they were made now; curves and figures of a checkpoint; scores and findings
    of a report; figures of an audit.
    """
    if version.ref.kind in ("captions", "prompts"):
        return [*(_told(version, store) if worked else []), _some(version)]
    if version.ref.kind == "checkpoint":
        sheet = curve_sheet(version)
        rows = [[what, value] for what, value in training_figures(version).items()]
        return [f"![]({sheet})" if sheet else "", _table([["figure", "value"], *rows])]
    if version.ref.kind == "report":
        report = _report(version)
        note = f"Share of right images, with intervals of {report.confidence:.0%}:"
        lines = [[_harmless(name), *map(_stacked, cells)] for name, *cells in score_table(report)]
        printed = [part for table in read_published(version) for part in _published(table)]
        return [_harmless(headline(report)), note, _table(lines), *map(_harmless, report.findings), *printed]
    if version.ref.kind == "audit":
        found = read_audit(version)
        lines = [[_harmless(cell) for cell in line] for line in figure_rows(found)]
        return [_harmless(audit_headline(found)), *map(_harmless, reasons(found)), _table(lines)]
    return []


def _told(version: Version, store: Store) -> list[str]:
    """Figures of texts, and novelty where they were chosen: they take a column of every shard to read."""
    facts, charts = token_facts(version, store), list[Chart]()
    if version.plan.stage == select.STAGE.name:
        summary, novelty = summary_of(version), novelty_by_rank(version)
        facts, charts = diversity_facts(summary, novelty), novelty_charts(summary, novelty)
    sheet = sheet_of(charts)
    lines = [[_harmless(what), _harmless(value)] for what, value in facts.items()]
    return [f"![]({sheet})" if sheet else "", _table([["figure", "value"], *lines]) if lines else ""]


def _some(version: Version) -> str:
    """Some of the texts."""
    some = shown_table(version, PICTURES)["caption"].to_pylist()
    return _table([["some of them"], *([_harmless(text)] for text in some)]) if some else ""


def _report(version: Version) -> Report:
    return Report.model_validate_json(version.file("report.json").read_bytes())


def _published(table: PublishedTable) -> list[str]:
    """A table that others printed, under a title that says so."""
    return [_harmless(published_title(table)), _table([list(map(_harmless, line)) for line in published_lines(table)])]


def _pictures(thumbs: Sequence[tuple[str, str]]) -> str:
    """A table, because Prefect's page puts every picture outside a table on a line of its own."""
    if len(thumbs) <= 1:
        return "".join(f"![]({uri})\n\n{_harmless(caption)}" for caption, uri in thumbs)
    cells = [(f"![]({uri})", _caption(caption)) for caption, uri in thumbs]
    lines: list[list[str]] = []
    for at in range(0, len(cells), ACROSS):
        group = [*cells[at : at + ACROSS], *[("", "")] * ACROSS][:ACROSS]
        lines += [[picture for picture, _ in group], [caption for _, caption in group]]
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its head."""
    spelled = [f"| {' | '.join(cells)} |" for cells in (lines[0], ["---"] * len(lines[0]), *lines[1:])]
    return "\n".join(spelled)


def _caption(text: str) -> str:
    """In lines as short as a thumbnail is wide."""
    return "<br>".join(textwrap.wrap(textwrap.shorten(_harmless(text), 72, placeholder=" ..."), 15))


def _stacked(text: str) -> str:
    """One word a line, intervals whole: Prefect's older page cuts wide tables off, the newer breaks them anywhere."""
    words = re.sub(r"[()]", "", _harmless(text)).replace("–", "\u2060–\u2060")
    return words.replace(" ", "<br>")


def _harmless(text: str) -> str:
    """Without the characters that mean something to Markdown; round brackets do only after square ones."""
    return re.sub(r"[^\w\s.,;:'%+()–-]|(?<![^\W_])_+|_+(?![^\W_])", " ", text)
