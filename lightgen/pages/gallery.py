"""Any version as one HTML file to look at, and as a handful of thumbnails for a dashboard."""

import json
from pathlib import Path

from lightgen.operations.lineage import ancestors, roles, step, steps
from lightgen.pages import rows
from lightgen.pages.audit import audit_html
from lightgen.pages.evaluation import report_grid, report_html
from lightgen.pages.html import render
from lightgen.pages.kinds import shown_of
from lightgen.pages.shown import page_picture, shrunk
from lightgen.storage.store import Store
from lightgen.storage.version import Version

THUMBNAIL_PX, SHEET_PX, SAMPLES = 96, 720, "samples.png"


def gallery(version: Version, store: Store, limit: int = 120) -> str:
    """One self-contained page of up to `limit` rows; a report and an audit have pages of their own."""
    if version.ref.kind == "report":
        return report_html(version, store)
    if version.ref.kind == "audit":
        return audit_html(version, store, page_picture)
    return render(
        "gallery.html",
        title=f"{version.ref.kind}@{version.ref.version[:12]}",
        version=version,
        step=step(version),
        shown=shown_of(version, store, limit),
        rejects=rows.rejected(version, limit),
        lineage=steps(ancestors([version.ref], store), roles(store)),
        config=json.dumps(version.plan.config, indent=1, ensure_ascii=False),
    )


def write_page(version: Version, store: Store, to: Path | None = None) -> Path:
    """The page of a version as a file: `to`, or in the folder `pages` of a local store, or here."""
    name = f"{version.ref.kind}-{version.ref.version[:12]}.html"
    if to is None:
        folder = Path.cwd() if store.uri.startswith("s3://") else Path(store.uri) / "pages"
        folder.mkdir(exist_ok=True)
        to = folder / name
    to.write_text(gallery(version, store), encoding="utf-8")
    return to


def thumbnails(version: Version, limit: int = 12) -> list[tuple[str, str]]:
    """Up to `limit` (caption, data URI), together some tens of kB; empty for kinds without pictures of their own."""
    kind = version.ref.kind
    store = Store(version.files)
    if kind in ("images", "kept"):
        shown = rows.drawn(version, limit) if kind == "images" else rows.kept(version, store, limit)
        return [(row["caption"], _small(data)) for row, data in shown]
    if kind == "pairs":
        found = rows.pairs(version, store, max(1, limit // 2))
        sides = [
            (row["caption"], side, data) for row, *both in found for side, data in zip(rows.SIDES, both, strict=True)
        ]
        return [(f"{side}: {caption}", _small(data)) for caption, side, data in sides]
    if kind == "checkpoint":
        return [("samples", sheet_uri(version.file(SAMPLES).read_bytes()))] if SAMPLES in version.file_names else []
    return [("models side by side", sheet_uri(report_grid(version, store)))] if kind == "report" else []


def _small(data: bytes) -> str:
    return shrunk(data, THUMBNAIL_PX, 75, THUMBNAIL_PX // 2)


def sheet_uri(data: bytes) -> str:
    """A contact sheet as a data URI of some tens of kB."""
    return shrunk(data, SHEET_PX, 70)
