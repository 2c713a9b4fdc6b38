"""What the page of a version shows, kind by kind."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lightgen.encoders.restore import load_vae_of, read_image_encoding
from lightgen.generators.restore import checkpoint_config
from lightgen.pages import linked, rows
from lightgen.pages.answers import answer_charts
from lightgen.pages.curves import checkpoint_charts
from lightgen.pages.fetched import fetched_html
from lightgen.pages.histogram import Histogram, histogram_chart
from lightgen.pages.html import data_uri, picture
from lightgen.pages.kept import kept
from lightgen.pages.linked import linked_charts, linked_html
from lightgen.pages.rows import Row
from lightgen.pages.selected import coverage_html, diversity_facts, novelty_by_rank, novelty_charts, summary_of
from lightgen.pages.shown import PAGE_PX, SAME, Shown, Tile, page_picture, size_of, tile_of
from lightgen.pages.tokens import token_facts
from lightgen.stages import fetch
from lightgen.storage.feature_codec import latents_from_table
from lightgen.storage.inspect import declared_schema, list_versions
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import Kind


def shown_of(version: Version, store: Store, limit: int) -> Shown:
    """What the page of a version shows, of at most `limit` rows."""
    return _SHOWN[version.ref.kind](version, store, limit)


def _captions(version: Version, store: Store, limit: int) -> Shown:
    columns = [*(name for name in declared_schema(version).names if name not in ("id", "caption")), "id"]
    shown = rows.shown_table(version, limit).to_pylist()
    return Shown(note=SAME, columns=rows.filled(columns, shown), rows=shown, facts=token_facts(version, store))


def _prompts(version: Version, store: Store, limit: int) -> Shown:
    """By rank: what was chosen first, and how much newer than all before each prompt was."""
    plain = _captions(version, store, limit)
    if version.plan.stage != "select":
        return plain
    order = sorted(plain.rows, key=lambda row: row["rank"])
    columns = sorted(plain.columns, key=lambda name: name not in ("rank", "novelty"))
    summary, novelty = summary_of(version), novelty_by_rank(version)
    charts, facts = [one.drawn() for one in novelty_charts(summary, novelty)], diversity_facts(summary, novelty)
    sections = coverage_html(summary)
    note = f"By rank. {SAME}"
    return replace(
        plain, note=note, columns=columns, rows=order, title="Diversity", charts=charts, facts=facts, sections=sections
    )


def _images(version: Version, _: Store, limit: int) -> Shown:
    tiles = [tile_of(row, data, f"{size_of(row)} {row['format']}") for row, data in rows.drawn(version, limit)]
    sections = [fetched_html(version)] if version.plan.stage == fetch.STAGE.name else []
    return Shown(note=SAME, tiles=tiles, sections=sections)


def _links(version: Version, _: Store, limit: int) -> Shown:
    shown, charts = rows.shown_table(version, limit).to_pylist(), list(linked_charts(version))
    columns, sections = rows.filled(linked.COLUMNS, shown), [linked_html(version)]
    return Shown(note=SAME, columns=columns, rows=shown, title="Sizes and scores", charts=charts, sections=sections)


def _scores(version: Version, _: Store, limit: int) -> Shown:
    hidden = ("id", "prompt_id", "caption", "image_sha256")
    names = [*(name for name in declared_schema(version).names if name not in hidden), "id"]
    shown = rows.shown_table(version, limit).to_pylist()
    charts = list(answer_charts(version))
    return Shown(note=SAME, columns=rows.filled(names, shown), rows=shown, title="Answers", charts=charts)


def _features(version: Version, store: Store, limit: int) -> Shown:
    table = rows.shown_table(version, limit)
    vae = load_vae_of(read_image_encoding(version), store, "cpu")
    mean, std = latents_from_table(table)
    pixels = vae.decode(mean.float()).cpu().numpy()
    told = zip(*(table[name].to_pylist() for name in ("caption", "id")), pixels, strict=True)
    tiles = [Tile(picture(image, PAGE_PX, PAGE_PX), caption, id) for caption, id, image in told]
    facts = {
        "latent": " × ".join(str(size) for size in mean.shape[1:]),
        "mean of latents": f"{float(mean.float().mean()):+.3f}",
        "spread of latents": f"{float(mean.float().std()):.3f}",
        "mean standard deviation": f"{float(std.float().mean()):.4f}",
    }
    return Shown(note=f"What the VAE makes of the stored latents again. {SAME}", tiles=tiles, facts=facts)


def _preferences(version: Version, store: Store, limit: int) -> Shown:
    found = [
        (row, _side(row, winner, "winner"), _side(row, loser, "loser"))
        for row, winner, loser in rows.pairs(version, store, limit)
    ]
    margins = Histogram.of(
        version.table(shard, columns=["margin"])["margin"].to_numpy() for shard in range(version.n_shards)
    )
    charts = [histogram_chart("margins", margins, [])] if margins is not None else []
    return Shown(note=f"Winner and loser of each pair. {SAME}", pairs=found, title="Margins", charts=charts)


def _side(row: Row, data: bytes, side: str) -> Tile:
    return Tile(page_picture(data), row["caption"], row[f"{side}_id"], f"{side}, score {row[f'{side}_score']:.2f}")


def _pair_features(version: Version, _: Store, limit: int) -> Shown:
    columns = ["id", "prompt_id"]
    found = rows.shown_table(version, limit).select([*columns, "caption"]).to_pylist()
    return Shown(note=SAME, columns=columns, rows=found)


def _texts(version: Version, _: Store, limit: int) -> Shown:
    columns = ["text_tokens", "id"]
    found = rows.shown_table(version, limit).select([*columns, "caption"]).to_pylist()
    return Shown(note=SAME, columns=columns, rows=found)


def _checkpoint(version: Version, store: Store, __: int) -> Shown:
    settings = checkpoint_config(version)
    roles = sorted({entry.role for entry in store.log("checkpoint") if entry.version == version.ref.version} - {""})
    facts = {
        "role": ", ".join(roles) or "none",
        "parameters": f"{_parameters(version):,}",
        "images": f"{settings.size_px} px",
        "steps": f"{settings.steps:,}",
        **_overall(version, store),
    }
    sheets = [(_sheet_title(name), data_uri(version.file(name).read_bytes(), "png")) for name in _sheets(version)]
    return Shown(charts=checkpoint_charts("training", version), sheets=sheets, facts=facts)


def _sheets(version: Version) -> list[str]:
    """Grids of samples: the last first, then those drawn as training went."""
    return sorted(
        (name for name in version.file_names if name.startswith("samples") and name.endswith(".png")), key=len
    )


def _sheet_title(name: str) -> str:
    step = name.removeprefix("samples-").removesuffix(".png")
    return f"Samples at step {int(step):,}" if step.isdecimal() else "Samples of the averaged weights"


def _overall(version: Version, store: Store) -> dict[str, str]:
    """What the newest report that judged it says. Reports that are retired, lost or damaged are passed over."""
    for line in reversed(list_versions(store, "report")):
        if line.retired or line.trouble:
            continue
        # Read plainly: a report of an earlier revision has other fields, and these.
        report = json.loads(store.open(f"report@{line.version}").file("report.json").read_bytes())
        for model in report["models"]:
            if model["checkpoint"] == version.ref.content:
                one = model["overall"]
                told = f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
                return {f"overall, report@{line.version[:8]}": told}
    return {}


def _vae(version: Version, _: Store, limit: int) -> Shown:
    described = json.loads(version.file("vae.json").read_text(encoding="utf-8"))
    facts = {name: str(value) for name, value in described["identity"].items() if isinstance(value, str | int | float)}
    return Shown(columns=["name", "dtype", "shape"], rows=rows.first_rows(version, limit), facts=facts)


def _reference(version: Version, _: Store, limit: int) -> Shown:
    return Shown(columns=declared_schema(version).names[1:], rows=rows.first_rows(version, limit))


_SHOWN: dict[Kind, Callable[[Version, Store, int], Shown]] = {
    "captions": _captions,
    "prompts": _prompts,
    "links": _links,
    "images": _images,
    "scores": _scores,
    "kept": kept,
    "vae": _vae,
    "texts": _texts,
    "features": _features,
    "pairs": _preferences,
    "pair_features": _pair_features,
    "reference": _reference,
    "checkpoint": _checkpoint,
}


def _parameters(version: Version) -> int:
    """Numbers in the weights named `model`, or in all tensors where names do not say."""
    table = version.table(columns=["name", "shape"]).to_pylist()
    named = [row for row in table if row["name"].startswith("model")] or table
    return sum(int(np.prod([int(size) for size in row["shape"].split(",") if size])) for row in named)
