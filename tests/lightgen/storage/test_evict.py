"""Eviction: only what a checkpoint can draw again goes, sealed stays sealed, and what comes back is the same."""

import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from lightgen.engines import redraw
from lightgen.errors import Evicted, StoreCorrupt, StoreError
from lightgen.generators import drawing
from lightgen.generators.student import StudentGeneratorConfig
from lightgen.scorers.pixels import PixelsConfig
from lightgen.scorers.scenes import ScenesDetectorConfig
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.collect import collect, find_garbage
from lightgen.storage.evict import evict, find_evictable
from lightgen.storage.inspect import list_versions
from lightgen.storage.reuse import lenders
from lightgen.storage.store import open_or_create
from lightgen.storage.verify import verify
from lightgen.work import Context
from schemas.ref import ArtifactRef
from tests.lightgen.conftest import SAMPLE, Chain

LATER = 30 * 86_400.0
DRAWING = GenerateConfig(generator=StudentGeneratorConfig(sample=SAMPLE), format="png")


@pytest.fixture
def context(chain: Chain, tmp_path: Path) -> Context:
    """A copy of the chain's store, and a seed that no other test draws with."""
    shutil.copytree(chain.store.uri.removeprefix("file://"), tmp_path / "store")
    return replace(chain.context(seed=77), store=open_or_create(str(tmp_path / "store")))


@pytest.fixture
def drawn(chain: Chain, context: Context) -> ArtifactRef:
    """Images of the chain's student."""
    return generate(chain.prompts, DRAWING, context, chain.checkpoint)


def later() -> float:
    return time.time() + LATER


def evict_all(context: Context) -> list[str]:
    found = find_evictable(context.store, now=later())
    for one in found:
        evict(context.store, one)
    return [one.version.ref.version for one in found]


def test_only_images_of_a_student_are_evicted_and_their_names_hold(
    chain: Chain, context: Context, drawn: ArtifactRef
) -> None:
    scored = score(drawn, ScoreConfig(scorer=PixelsConfig()), context)
    before = context.store.open(drawn).bytes_total
    assert find_evictable(context.store) == [], "all of it is young"
    gone = evict_all(context)
    assert drawn.version in gone
    assert chain.images.version not in gone, "the teacher is paid"
    folder = Path(context.store.uri.removeprefix("file://")) / "v" / "images" / drawn.version
    assert list(folder.rglob("*.tar")) == []
    assert sum(path.stat().st_size for path in folder.rglob("*")) < before
    assert generate(chain.prompts, DRAWING, context, chain.checkpoint) == drawn
    assert score(drawn, ScoreConfig(scorer=PixelsConfig()), context) == scored
    assert verify(context.store) == []
    assert evict_all(context) == [], "once is enough"
    (line,) = [line for line in list_versions(context.store, "images") if line.version == drawn.version]
    assert line.evicted


def test_who_needs_the_pixels_is_told_how_to_get_them_and_gets_the_same(
    chain: Chain, context: Context, drawn: ArtifactRef
) -> None:
    version = context.store.open(drawn)
    first = version.table(0)["id"][0].as_py()
    pixels = version.member(first, "png")
    evict_all(context)
    judge = ScoreConfig(scorer=ScenesDetectorConfig())
    with pytest.raises(Evicted, match="lightgen run RECIPE --redraw"):
        score(drawn, judge, context)
    with pytest.raises(Evicted):
        context.store.open(drawn).member(first, "png")
    again = replace(context, redraw=True)
    assert generate(chain.prompts, DRAWING, again, chain.checkpoint) == drawn
    assert context.store.open(drawn).member(first, "png") == pixels
    assert not context.store.open(drawn).evicted
    assert score(drawn, judge, context).rows == drawn.rows
    assert verify(context.store) == []


def test_a_redraw_that_was_killed_goes_on(chain: Chain, context: Context, drawn: ArtifactRef, monkeypatch) -> None:
    evict_all(context)
    real, done = redraw.put_back, []

    def put_back(version, shard, output, dies=False):
        if done and dies:
            raise KeyboardInterrupt
        done.append(shard)
        real(version, shard, output)

    monkeypatch.setattr(redraw, "put_back", partial(put_back, dies=True))
    again = replace(context, redraw=True)
    with pytest.raises(KeyboardInterrupt):
        generate(chain.prompts, DRAWING, again, chain.checkpoint)
    assert context.store.open(drawn).evicted
    assert verify(context.store) == [], "what is back is checked, what is away is away on purpose"
    monkeypatch.setattr(redraw, "put_back", put_back)
    generate(chain.prompts, DRAWING, again, chain.checkpoint)
    assert done == [0, 1], "each shard once"
    assert not context.store.open(drawn).evicted


def test_other_pixels_do_not_take_their_place(chain: Chain, context: Context, drawn: ArtifactRef, monkeypatch) -> None:
    evict_all(context)
    real = drawing.encode_image
    monkeypatch.setattr(drawing, "encode_image", lambda pixels, *rest: real(255 - pixels, *rest))
    with pytest.raises(StoreError, match="others to the last bit"):
        generate(chain.prompts, DRAWING, replace(context, redraw=True), chain.checkpoint)
    assert context.store.open(drawn).evicted


def test_a_tag_and_an_unfinished_child_keep_the_images(chain: Chain, context: Context, drawn: ArtifactRef) -> None:
    context.store.tag(drawn, "keep")
    assert drawn.version not in evict_all(context)
    untagged = generate(chain.prompts, DRAWING, replace(context, seed=78), chain.checkpoint)
    scored = context.store.open(score(untagged, ScoreConfig(scorer=PixelsConfig()), context))
    Path(context.store.uri.removeprefix("file://"), scored.folder, "manifest.json").unlink()
    assert untagged.version not in evict_all(context)


def test_evicted_images_lend_no_rows_and_are_collected_whole(
    chain: Chain, context: Context, drawn: ArtifactRef
) -> None:
    evict_all(context)
    version = context.store.open(drawn)
    families = context.store.files.names("reuse/images")
    assert all(one.ref != drawn for family in families for one in lenders(context.store, version.plan, family))
    context.store.retire(drawn)
    collect(context.store, find_garbage(context.store, now=later()), now=later())
    assert context.store.files.walk(version.folder) == {}
    assert verify(context.store) == []


def test_null_control_images_that_vanish_by_themselves_are_damage(
    chain: Chain, context: Context, drawn: ArtifactRef
) -> None:
    version = context.store.open(drawn)
    Path(context.store.uri.removeprefix("file://"), version.folder, version.entry("tar", 0).path).unlink()
    assert [problem.what for problem in verify(context.store, drawn)] == ["is missing"]
    with pytest.raises(StoreCorrupt):
        generate(chain.prompts, DRAWING, context, chain.checkpoint)
