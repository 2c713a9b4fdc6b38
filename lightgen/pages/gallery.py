"""Any version as one HTML file to look at, and as a handful of thumbnails for a dashboard."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from lightgen.encoders.restore import load_vae_of, read_encoders
from lightgen.generators.restore import checkpoint_config
from lightgen.operations.lineage import ancestors, roles, step, steps
from lightgen.pages.audit import audit_html
from lightgen.pages.curves import checkpoint_charts
from lightgen.pages.evaluation import report_grid, report_html
from lightgen.pages.fetched import fetched_html
from lightgen.pages.html import data_uri, picture, render
from lightgen.stages import fetch
from lightgen.stages.links import yields
from lightgen.storage.feature_codec import latents_from_table
from lightgen.storage.pixels import BadImage, decode_image
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import Kind

SIDES, SAMPLES = ("winner", "loser"), "samples.png"
THUMBNAIL_PX, PAGE_PX, SHEET_PX = 96, 320, 720
Row = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """What a page shows of a version; whatever is empty is left out."""

    note: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Row] = ()
    pictures: Sequence[tuple[str, str, str]] = ()
    pairs: Sequence[tuple[Row, str, str]] = ()
    charts: Sequence[Markup] = ()
    sheets: Sequence[tuple[str, str]] = ()
    facts: dict[str, str] = field(default_factory=dict)
    sections: Sequence[Markup] = ()


def gallery(version: Version, store: Store, limit: int = 120) -> str:
    """One self-contained page of up to `limit` rows; a report and an audit have pages of their own."""
    if version.ref.kind == "report":
        return report_html(version, store)
    if version.ref.kind == "audit":
        return audit_html(version, store, _page_picture)
    return render(
        "gallery.html",
        title=f"{version.ref.kind}@{version.ref.version[:12]}",
        version=version,
        step=step(version),
        shown=_SHOWN[version.ref.kind](version, store, limit),
        rejects=_rejects(version, limit),
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
        shown = _images(version, limit) if kind == "images" else _kept_images(version, store, limit)
        return [(row["caption"], _small(data)) for row, data in shown]
    if kind == "pairs":
        pairs = _pairs(version, store, max(1, limit // 2))
        sides = [(row["caption"], side, data) for row, *both in pairs for side, data in zip(SIDES, both, strict=True)]
        return [(f"{side}: {caption}", _small(data)) for caption, side, data in sides]
    if kind == "checkpoint":
        return [("samples", sheet_uri(version.file(SAMPLES).read_bytes()))] if SAMPLES in version.file_names else []
    return [("models side by side", sheet_uri(report_grid(version, store)))] if kind == "report" else []


def _captions(version: Version, _: Store, limit: int) -> Shown:
    columns = [name for name in version.table(0).schema.names if name not in ("id", "caption")]
    return Shown(note="The first rows in stored order.", columns=columns, rows=_first_rows(version, limit))


def _generated_images(version: Version, _: Store, limit: int) -> Shown:
    shown = [
        (row["caption"], _page_picture(data), f"{row['width']}×{row['height']} {row['format']}")
        for row, data in _images(version, limit)
    ]
    sections = [fetched_html(version)] if version.plan.stage == fetch.STAGE.name else []
    return Shown(note="Rows at equal distances through the version.", pictures=shown, sections=sections)


def _links(version: Version, store: Store, limit: int) -> Shown:
    plain = _captions(version, store, limit)
    facts = {f"after {one.step}": f"{one.after:,} of {one.before:,}" for one in yields(version)}
    return replace(plain, facts=facts)


def _kept(version: Version, store: Store, limit: int) -> Shown:
    shown = [
        (row["caption"], _page_picture(data), f"{row['width']}×{row['height']}")
        for row, data in _kept_images(version, store, limit)
    ]
    yields = json.loads(version.file("yield.json").read_bytes())
    facts = {f"after {one['step']}": f"{one['after']:,} of {one['before']:,}" for one in yields}
    return Shown(note="Images that passed, at equal distances through the version.", pictures=shown, facts=facts)


def _scores(version: Version, _: Store, limit: int) -> Shown:
    names = [
        name for name in version.table(0).schema.names if name not in ("id", "prompt_id", "caption", "image_sha256")
    ]
    return Shown(note="The first rows in stored order.", columns=names, rows=_first_rows(version, limit))


def _features(version: Version, store: Store, limit: int) -> Shown:
    parts = [version.table(shard).take(places) for shard, places in _places(version, limit).items()]
    table = pa.concat_tables(parts or [version.table(0)])
    vae = load_vae_of(read_encoders(version), store, "cpu")
    mean, std = latents_from_table(table)
    pixels = vae.decode(mean.float()).cpu().numpy()
    captions, tokens = table.column("caption").to_pylist(), table.column("text_tokens").to_pylist()
    shown = [
        (caption, picture(image, 96), f"{count} text tokens")
        for caption, image, count in zip(captions, pixels, tokens, strict=True)
    ]
    facts = {
        "latent": " × ".join(str(size) for size in mean.shape[1:]),
        "mean of latents": f"{float(mean.float().mean()):+.3f}",
        "spread of latents": f"{float(mean.float().std()):.3f}",
        "mean standard deviation": f"{float(std.float().mean()):.4f}",
    }
    return Shown(note="What the VAE makes of the stored latents again.", pictures=shown, facts=facts)


def _preferences(version: Version, store: Store, limit: int) -> Shown:
    pairs = [(row, _page_picture(winner), _page_picture(loser)) for row, winner, loser in _pairs(version, store, limit)]
    return Shown(note="Winner and loser of each pair, with the scores of both.", pairs=pairs)


def _pair_features(version: Version, _: Store, limit: int) -> Shown:
    columns = ["prompt_id", "text_tokens"]
    rows = version.table(0, columns=["id", "caption", *columns]).slice(0, limit).to_pylist()
    return Shown(note="The first pairs in stored order, encoded.", columns=columns, rows=rows)


def _checkpoint(version: Version, _: Store, __: int) -> Shown:
    settings = checkpoint_config(version)
    parameters = _parameters(version)
    facts = {
        "parameters": f"{parameters:,}",
        "images": f"{settings.size_px} px",
        "steps": f"{settings.steps:,}",
    }
    # Weights that were imported were drawn with by nobody yet.
    drawn = [version.file(SAMPLES).read_bytes()] if SAMPLES in version.file_names else []
    sheets = [("Samples of the averaged weights", data_uri(sheet, "png")) for sheet in drawn]
    return Shown(charts=checkpoint_charts("training", version), sheets=sheets, facts=facts)


def _vae(version: Version, _: Store, limit: int) -> Shown:
    described = json.loads(version.file("vae.json").read_text(encoding="utf-8"))
    facts = {name: str(value) for name, value in described["identity"].items() if isinstance(value, str | int | float)}
    return Shown(columns=["name", "dtype", "shape"], rows=_first_rows(version, limit), facts=facts)


def _reference(version: Version, _: Store, limit: int) -> Shown:
    return Shown(columns=version.table(0).schema.names[1:], rows=_first_rows(version, limit))


_SHOWN: dict[Kind, Callable[[Version, Store, int], Shown]] = {
    "captions": _captions,
    "prompts": _captions,
    "links": _links,
    "images": _generated_images,
    "scores": _scores,
    "kept": _kept,
    "vae": _vae,
    "features": _features,
    "pairs": _preferences,
    "pair_features": _pair_features,
    "reference": _reference,
    "checkpoint": _checkpoint,
}


def _parameters(version: Version) -> int:
    """Numbers in the weights named `model`, or in all tensors where names do not say."""
    rows = version.table(columns=["name", "shape"]).to_pylist()
    named = [row for row in rows if row["name"].startswith("model")] or rows
    return sum(int(np.prod([int(size) for size in row["shape"].split(",") if size])) for row in named)


def _images(version: Version, limit: int) -> Iterator[tuple[Row, bytes]]:
    """Rows of IMAGES at equal distances through the version, with their bytes."""
    for shard, places in _places(version, limit).items():
        rows = version.table(shard).take(places).to_pylist()
        yield from _with_files(version, shard, rows)


def _with_files(images: Version, shard: int, rows: list[Row]) -> Iterator[tuple[Row, bytes]]:
    members = images.members_of(shard, [row["id"] for row in rows])
    return ((row, members[row["id"]][row["format"]]) for row in rows)


def _kept_images(version: Version, store: Store, limit: int) -> Iterator[tuple[Row, bytes]]:
    """Rows of KEPT at equal distances, with the bytes of their images: shard i holds those of image shard i."""
    images = store.open(version.parent("images"))
    for shard, places in _places(version, limit).items():
        ids = set(version.table(shard, columns=["id"]).take(places)["id"].to_pylist())
        rows = [row for row in images.table(shard).to_pylist() if row["id"] in ids]
        yield from _with_files(images, shard, rows)


def _pairs(version: Version, store: Store, limit: int) -> Iterator[tuple[Row, bytes, bytes]]:
    """Rows of PAIRS at equal distances, with the bytes of winner and loser."""
    images = [store.open(ref) for ref in version.parents if ref.kind == "images"]
    for shard, places in _places(version, limit).items():
        rows = version.table(shard).take(places).to_pylist()
        wanted = {row[f"{side}_id"] for row in rows for side in SIDES}
        found: dict[str, bytes] = {}
        for one in images:
            there = [row for row in one.table(shard).to_pylist() if row["id"] in wanted]
            found |= {row["id"]: data for row, data in _with_files(one, shard, there)}
        yield from ((row, found[row["winner_id"]], found[row["loser_id"]]) for row in rows)


def _places(version: Version, limit: int) -> dict[int, list[int]]:
    """Rows at equal distances through a version, by shard: told by the manifest, so that no other shard is read."""
    counts = [receipt.rows_out for receipt in version.manifest.shards]
    shown, starts = min(sum(counts), limit), np.cumsum([0, *counts])
    found: dict[int, list[int]] = {}
    for place in (number * sum(counts) // shown for number in range(shown)):
        shard = int(np.searchsorted(starts, place, side="right")) - 1
        found.setdefault(shard, []).append(place - int(starts[shard]))
    return found


def _first_rows(version: Version, limit: int) -> list[Row]:
    """Up to `limit` rows from the first shards."""
    rows: list[Row] = []
    for shard in range(version.n_shards):
        rows += version.table(shard).slice(0, limit - len(rows)).to_pylist()
        if len(rows) >= limit:
            break
    return rows


def _rejects(version: Version, limit: int) -> list[Row]:
    """Refused rows, as many of each reason as there is room for; reading ends when there are enough."""
    reasons = version.reject_reasons
    each = max(1, limit // max(1, len(reasons)))
    wanted = {reason: min(each, count) for reason, count in reasons.items()}
    found: list[Row] = []
    for shard in range(version.n_shards):
        if not any(wanted.values()):
            break
        for row in version.rejects(shard).to_pylist():
            if wanted.get(row["reason"], 0):
                wanted[row["reason"]] -= 1
                found.append({**row, "caption": json.loads(row["row"]).get("caption", "")})
    return sorted(found, key=lambda row: row["reason"])


def _page_picture(data: bytes) -> str:
    return _shown(data, PAGE_PX, 85, PAGE_PX // 2)


def _small(data: bytes) -> str:
    return _shown(data, THUMBNAIL_PX, 75, THUMBNAIL_PX // 2)


def sheet_uri(data: bytes) -> str:
    """A contact sheet as a data URI of some tens of kB."""
    return _shown(data, SHEET_PX, 70)


def _shown(data: bytes, side_px: int, quality: int, least_px: int = 0) -> str:
    """Data URI of at most `side_px`, of at least `least_px`; bytes that are no image become an empty picture."""
    pixels = decode_image(data)
    return "data:," if isinstance(pixels, BadImage) else picture(pixels, least_px, side_px, quality)
