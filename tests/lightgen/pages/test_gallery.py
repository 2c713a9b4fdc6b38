"""Galleries of every kind: whole, escaped, alone; thumbnails stay small."""

import base64
import hashlib
import io
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lightgen.pages import rows
from lightgen.pages.gallery import gallery, sheet_uri, thumbnails, write_page
from lightgen.pages.histogram import Histogram, histogram_chart
from lightgen.pages.rows import shown_rows, shown_table
from lightgen.pages.shown import page_picture
from lightgen.scorers.layout import LayoutConfig
from lightgen.scorers.scenes import ScenesDetectorConfig
from lightgen.stages.encode_pairs import EncodePairsConfig, encode_pairs
from lightgen.stages.pair import PairConfig, pair
from lightgen.stages.reference import ReferenceConfig, reference
from lightgen.stages.score import ScoreConfig, score
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.store import open_store
from schemas.ref import ArtifactRef
from tests.lightgen.conftest import Chain
from tests.lightgen.sealed import pairs as sealed_pairs
from tests.lightgen.stages.exam import exam_config, report_of

PICTURES = {"images": 10, "kept": 10, "features": 10, "checkpoint": 1, "pairs": 12, "report": 3 * 6 * 4}


@pytest.fixture(scope="module")
def refs(chain: Chain, sample) -> dict[str, ArtifactRef]:
    """A version of every kind."""
    pairs, drawn = sealed_pairs(chain.store, 6)
    encoded = encode_pairs(pairs, chain.checkpoint, drawn, EncodePairsConfig(), chain.context())
    asked = reference(
        chain.checkpoint, encoded, chain.words(encoded), ReferenceConfig(draws=2, noise_copies=1), chain.context()
    )
    scenes = SourceConfig.model_validate({"corpora": [{"kind": "scenes", "split": "test", "count": 12}]})
    made = {"captions": source(scenes, chain.context()), "pairs": pairs, "pair_features": encoded, "reference": asked}
    return {**chain.refs, **made, "report": report_of(chain, exam_config(sample)).ref}


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


KINDS = (
    "captions", "prompts", "images", "scores", "kept", "vae", "features", "checkpoint", "pairs", "pair_features",
    "reference", "report",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_page_that_stands_alone(chain: Chain, refs: dict[str, ArtifactRef], kind: str) -> None:
    version = chain.store.open(refs[kind])
    assert version.ref.kind == kind
    page = gallery(version, chain.store, limit=10)
    assert version.ref.version in page
    assert page.count("<script") == len(re.findall(r'<input id="find"', page)) <= 1
    assert all(f"'sha256-{digest(text)}'" in page for text in re.findall(r"<script>(.*?)</script>", page, re.DOTALL))
    assert "\x1b" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)[a-z/]""", page)
    assert page.count("<img") == PICTURES.get(kind, 0)


def test_what_was_refused_is_shown_escaped(chain: Chain) -> None:
    page = gallery(chain.store.open(chain.prompts), chain.store)
    assert "too_long" in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; \\x1b[31mred\\x1b[0m {0} %s" in page


def test_pairs_stand_side_by_side_with_their_scores(chain: Chain, refs: dict[str, ArtifactRef]) -> None:
    page = gallery(chain.store.open(refs["pairs"]), chain.store, limit=5)
    assert page.count("<img") == 2 * 5
    assert page.count("winner, score 1.00") == page.count("loser, score 0.00") == 5
    assert "teacher against student" in page


def test_pairs_of_a_recipe_find_their_images_among_several_versions(chain: Chain, sample) -> None:
    """Those that `pair` sealed: images of both generators are parents, scores are too."""
    from lightgen.generators.scenes import ScenesConfig
    from lightgen.stages.generate import GenerateConfig, generate

    config, context = PairConfig(judge=ScenesDetectorConfig(), sample=sample), replace(chain.context(), seed=9)
    made = config.generators(GenerateConfig(generator=ScenesConfig(), size_px=32, format="png"))
    drawn = [generate(chain.prompts, one, context, chain.checkpoint) for one in made.values()]
    judged = [score(one, ScoreConfig(scorer=config.judge), context) for one in drawn]
    version = chain.store.open(pair(drawn, judged, config, context))
    assert gallery(version, chain.store, limit=5).count("<img") == 2 * min(5, version.rows) > 0


def heads_on(page: str) -> list[str]:
    return re.findall(r"<th[^>]*>([^<]*)</th>", page)


def test_columns_that_are_empty_in_all_rows_are_left_out(chain: Chain) -> None:
    prompts, scores = (heads_on(gallery(chain.store.open(ref), chain.store)) for ref in (chain.prompts, chain.scores))
    assert {"caption", "id", "rank", "novelty"} <= set(prompts)
    assert "image_id" not in prompts, "these prompts were not written for images"
    assert {"caption", "id", "contrast"} <= set(scores)
    assert not {"unscored", "unscored_detail"} & set(scores)


def test_vectors_are_on_no_page(chain: Chain) -> None:
    vectors = score(chain.images, ScoreConfig(scorer=LayoutConfig()), chain.context())
    page = gallery(chain.store.open(vectors), chain.store)
    assert "vector" not in heads_on(page)
    assert "b&#39;" not in page


def test_scores_show_how_each_number_is_spread_and_hashes_are_no_numbers(chain: Chain) -> None:
    page = gallery(chain.store.open(chain.scores), chain.store)
    charts = re.findall(r'<figure class="chart"><figcaption><b>([^<]*)</b>', page)
    assert {"contrast", "short_side"} <= set(charts)
    assert "phash" not in charts


def test_ids_to_copy_are_whole_on_pairs_and_reports(chain: Chain, refs: dict[str, ArtifactRef]) -> None:
    pairs, report = (chain.store.open(refs[kind]) for kind in ("pairs", "report"))
    rows = pairs.table().to_pylist()
    wanted = {row[name] for row in rows for name in ("id", "winner_id", "loser_id")}
    assert ids_on(gallery(pairs, chain.store)) >= {id for id in wanted if re.fullmatch(r"[0-9a-f]{32}", id)}
    page = gallery(report, chain.store)
    assert ids_on(page) <= set(report.table()["prompt_id"].to_pylist())
    assert len(ids_on(page)) == len(re.findall(r'<tr data-find="[^"]*untrained wrong', page)) > 0
    assert '<input id="find"' in page


def ids_on(page: str) -> set[str]:
    return set(re.findall(r'<code class="id">([0-9a-f]{32})</code>', page))


def test_the_same_images_are_shown_at_every_stage(chain: Chain) -> None:
    pages = {kind: gallery(chain.store.open(ref), chain.store, 6) for kind, ref in chain.refs.items()}
    images, kept, features = (ids_on(pages[kind]) for kind in ("images", "kept", "features"))
    assert len(images) == 6
    assert kept == features
    still_there = set(chain.store.open(chain.kept).table(columns=["id"])["id"].to_pylist())
    assert images & still_there <= kept
    assert len(images & kept) >= 4


def test_rows_are_chosen_by_prompt_and_read_from_few_shards(chain: Chain, monkeypatch) -> None:
    version = chain.store.open(chain.images)
    prompts = version.table(columns=["prompt_id"])["prompt_id"].to_pylist()
    shown = shown_table(version, min(len(set(prompts)), 6))["prompt_id"].to_pylist()
    assert len(set(shown)) == len(shown)
    everything = shown_table(version, 10**6)
    assert sorted(everything["id"].to_pylist()) == sorted(version.table(columns=["id"])["id"].to_pylist())
    monkeypatch.setattr(rows, "SHARDS", 1)
    assert len(shown_rows(version, 10)) == 1


def test_a_checkpoint_tells_its_role_and_its_score(chain: Chain, refs: dict[str, ArtifactRef]) -> None:
    chain.store.publish(chain.checkpoint, "pretrained")
    page = gallery(chain.store.open(chain.checkpoint), chain.store)
    assert "pretrained" in page
    assert re.search(r'overall, report@[0-9a-f]{8}</span><b class="long">0\.\d{3} \[', page)


def test_a_report_that_is_lost_costs_no_page(chain: Chain, tmp_path) -> None:
    copy = open_store(str(shutil.copytree(chain.store.uri, tmp_path / "copy")))
    # Other tests of this process may have made further reports of the student.
    for manifest in (tmp_path / "copy" / "v" / "report").glob("*/manifest.json"):
        manifest.unlink()
    page = gallery(copy.open(chain.checkpoint), copy)
    assert "overall, report@" not in page


def test_a_histogram_counts_every_value_once_and_draws_the_line() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    found = Histogram.of([values[:300], np.array([np.nan, np.inf]), values[300:]])
    assert found is not None
    assert found.counts.sum() == 1000
    lowest, highest = values[:300].min(), values[:300].max()
    inside, _ = np.histogram(np.clip(values, lowest, highest), 40)
    assert (found.counts == inside).all()
    assert Histogram.of([np.array([np.nan])]) is None
    chart = histogram_chart("x<y", found, [0.5])
    assert chart.count("<rect") == (inside > 0).sum()
    assert "x&lt;y" in chart
    assert chart.count('class="bound"') == 1


def test_a_checkpoint_shows_its_loss(chain: Chain) -> None:
    page = gallery(chain.store.open(chain.checkpoint), chain.store)
    assert "training: loss" in page
    assert page.count("<polyline") == 2


def test_kept_images_say_what_each_rule_took(chain: Chain) -> None:
    assert "after blank" in gallery(chain.store.open(chain.kept), chain.store)


def test_thumbnails_are_few_and_small(chain: Chain, refs: dict[str, ArtifactRef]) -> None:
    counts = {"images": 5, "kept": 5, "pairs": 4, "checkpoint": 1, "report": 1, "prompts": 0, "scores": 0}
    for kind, count in counts.items():
        shown = thumbnails(chain.store.open(refs[kind]), limit=5)
        assert len(shown) == count
        assert all(uri.startswith("data:image/webp;base64,") for _, uri in shown)
        assert sum(len(uri) for _, uri in shown) < 80_000


def test_transparent_parts_are_seen_on_pages_and_dashboards() -> None:
    """Neither black nor white, which a picture may be itself."""
    image = Image.new("RGBA", (120, 120), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 60, 120))
    data = io.BytesIO()
    image.save(data, "PNG")
    for uri in (page_picture(data.getvalue()), sheet_uri(data.getvalue())):
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as shown:
            grey = np.asarray(shown.convert("L")).astype(int)
        half = grey.shape[1] // 2
        assert grey[:, : half - 8].max() < 30
        assert np.percentile(grey[:, half + 8 :], (25, 75)) == pytest.approx([212, 244], abs=3)


def test_a_page_lies_beside_the_versions_of_its_store(chain: Chain) -> None:
    path = write_page(chain.store.open(chain.kept), chain.store)
    assert path.name == f"kept-{chain.kept.version[:12]}.html"
    assert path.parent.name == "pages"
    assert chain.kept.version in path.read_text(encoding="utf-8")
