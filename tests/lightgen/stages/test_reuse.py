"""Row reuse: growing data pays only for what is new, lenders may vanish, and a killed batch is bought again alone."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from lightgen.encoders.patch_pca import PatchPcaConfig
from lightgen.errors import TryLater
from lightgen.generators.base import Failure, Retry
from lightgen.generators.drawing import Drawing, Sample, draw
from lightgen.generators.scenes import ScenesConfig, ScenesGenerator
from lightgen.progress import SILENT
from lightgen.scenes.grammar import captions
from lightgen.scorers.pixels import PixelsConfig, PixelsScorer
from lightgen.stages.encode import EncodeConfig, encode
from lightgen.stages.filter import FilterConfig, filter_images
from lightgen.stages.fit_vae import FitVaeConfig, fit_vae
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.journal import Journal
from lightgen.storage.pixels import encode_image
from lightgen.storage.plans import Stage
from lightgen.storage.store import open_or_create
from lightgen.storage.verify import verify
from lightgen.work import Context
from tests.lightgen.sealed import image, images, noise, prompts

TEXTS = [text for _, text in zip(range(24), captions("train", "colors"), strict=False)]
SCORING = ScoreConfig(scorer=PixelsConfig())
DRAWING = GenerateConfig(generator=ScenesConfig(), size_px=32, format="png")


class Counting(ScenesGenerator):
    """The scenes generator, with a count of what it drew."""

    drawn: ClassVar[list[str]] = []

    def generate(self, captions, seeds, height_px, width_px):
        self.drawn.extend(captions)
        return super().generate(captions, seeds, height_px, width_px)


@pytest.fixture
def counting(monkeypatch):
    Counting.drawn = []
    monkeypatch.setattr(ScenesConfig, "open", lambda self, work, worker: Counting())
    return Counting.drawn


@pytest.fixture
def context(tmp_path):
    return Context(open_or_create(str(tmp_path / "store")), seed=1)


def reused(context, ref):
    return [receipt.rows_reused for receipt in context.store.open(ref).manifest.shards]


def test_ten_new_captions_cost_ten_images(context, counting):
    few = generate(prompts(context.store, TEXTS[:14], 1), DRAWING, context)
    assert len(counting) == 14
    counting.clear()
    more = generate(prompts(context.store, TEXTS, 1), DRAWING, context)
    assert sorted(counting) == sorted(TEXTS[14:])
    assert sum(reused(context, more)) == 14
    old, new = (dict(rows_of(context, ref)) for ref in (few, more))
    assert all(new[id] == row for id, row in old.items())


def rows_of(context, ref):
    version = context.store.open(ref)
    return ((row["id"], row) for row in version.table().to_pylist())


def test_what_is_copied_equals_what_would_be_drawn(context, tmp_path):
    generate(prompts(context.store, TEXTS[:14], 1), DRAWING, context)
    lent = generate(prompts(context.store, TEXTS, 1), DRAWING, context)
    alone = Context(open_or_create(str(tmp_path / "alone")), seed=1)
    fresh = generate(prompts(alone.store, TEXTS, 1), DRAWING, alone)
    assert (lent.version, lent.fingerprint, lent.content) == (fresh.version, fresh.fingerprint, fresh.content)
    assert verify(context.store) == []


def test_more_samples_of_a_prompt_keep_the_first_ones(context, counting):
    asked = prompts(context.store, TEXTS[:6], 1)
    generate(asked, DRAWING, context)
    counting.clear()
    generate(asked, DRAWING.model_copy(update={"samples_per_prompt": 3}), context)
    assert len(counting) == 12


@pytest.mark.parametrize("change", [{"size_px": 48}, {"quality": 50, "format": "jpg"}])
def test_other_settings_take_nothing_over(context, counting, change):
    asked = prompts(context.store, TEXTS[:6], 1)
    generate(asked, DRAWING, context)
    counting.clear()
    generate(asked, DRAWING.model_copy(update=change), context)
    assert len(counting) == 6


def test_a_version_stays_whole_when_its_lender_goes(context):
    few = generate(prompts(context.store, TEXTS[:14], 1), DRAWING, context)
    more = generate(prompts(context.store, TEXTS, 1), DRAWING, context)
    lender = context.store.open(few)
    for receipt in lender.manifest.shards:
        for entry in receipt.files:
            context.store.files.delete(f"{lender.folder}/{entry.path}")
    assert verify(context.store, more) == []


def test_a_lender_whose_files_are_gone_lends_nothing(context, counting):
    few = generate(prompts(context.store, TEXTS[:14], 1), DRAWING, context)
    lender = context.store.open(few)
    for receipt in lender.manifest.shards:
        for entry in receipt.files:
            if entry.role == "tar":
                context.store.files.delete(f"{lender.folder}/{entry.path}")
    counting.clear()
    more = generate(prompts(context.store, TEXTS, 1), DRAWING, context)
    assert sorted(counting) == sorted(TEXTS)
    assert verify(context.store, more) == []


def test_failures_for_good_are_taken_over_too(context, counting):
    odd = [*TEXTS[:5], "no scene at all"]
    config = DRAWING.model_copy(update={"max_reject_fraction": 0.5})
    generate(prompts(context.store, odd, 1), config, context)
    counting.clear()
    again = generate(prompts(context.store, [*odd, *TEXTS[5:7]], 1), config, context)
    assert sorted(counting) == sorted(TEXTS[5:7])
    assert context.store.open(again).reject_reasons == {"caption_not_drawable": 1}


def test_only_new_images_are_scored_and_encoded(context, monkeypatch):
    looked = []
    whole = PixelsScorer.score
    monkeypatch.setattr(
        PixelsScorer, "score", lambda self, images, captions: looked.extend(captions) or whole(self, images, captions)
    )
    chain(context, TEXTS[:14])
    assert len(looked) == 14
    looked.clear()
    features = chain(context, TEXTS)
    assert sorted(looked) == sorted(TEXTS[14:])
    assert reused(context, features) == [14]
    assert verify(context.store) == []


def test_a_shard_without_rows_asks_nothing_of_a_lender_with_fewer_shards(context):
    score(generate(prompts(context.store, TEXTS[:4], 1), DRAWING, context), SCORING, context)
    drawn = [image("a", encode_image(noise(1), "png"), "a picture")]
    wider = images(context.store, drawn, [drawn, [], []])
    assert context.store.open(score(wider, SCORING, context)).rows == 1


def chain(context, texts):
    images = generate(prompts(context.store, texts, 1), DRAWING, context)
    scores = score(images, SCORING, context)
    kept = filter_images(images, {"pixels": scores}, FilterConfig(max_reject_fraction=1.0, repeats=()), context)
    # The VAE of the first images, as one that is given would be.
    first = context.store.log("vae")
    config = EncodeConfig(size_px=32, vae=PatchPcaConfig(channels=8))
    vae = context.store.open("vae@1").ref if first else fit_vae(kept, images, FitVaeConfig(vae=config.vae), context)
    return encode(kept, images, vae, config, context)


def test_copied_features_equal_encoded_ones(context, tmp_path):
    chain(context, TEXTS[:14])
    lent = context.store.open(chain(context, TEXTS)).table()
    order = lent["id"].to_pylist()
    kept = context.store.open(context.store.open("features@latest").parent("kept")).table()["id"].to_pylist()
    assert order == kept


class Flaky:
    """Draws, but every second image only at the second asking; dies when told to."""

    def __init__(self, die_at=None):
        self.asked, self.calls, self.die_at = [], 0, die_at

    def generate(self, captions, seeds, height_px, width_px):
        self.calls += 1
        if self.calls == self.die_at:
            raise KeyboardInterrupt
        out = []
        for caption in captions:
            again = caption in self.asked
            self.asked.append(caption)
            odd = int(caption.removeprefix("c")) % 2
            out.append(Retry("rate_limit", "slow down") if odd and not again else np.full((8, 8, 3), 7, np.uint8))
        return out


SAMPLES = [Sample(f"{number:032x}", "p", f"c{number}", 0, number) for number in range(8)]


def drawing(generator, **changes):
    made = Drawing(lambda: generator, (8, 8), "png", 90, 2, 1, journals=True, sleep=lambda _: None)
    return replace(made, **changes)


@pytest.fixture
def journal(context):
    plan = Stage("generate", "images", 1).plan({}, 0, [], 1)
    return Journal(context.store.files, plan, 0)


def test_retries_are_never_sealed_and_lose_nothing(journal):
    flaky = Flaky()
    made = draw(SAMPLES, drawing(flaky), journal, SILENT)
    assert set(made) == {sample.id for sample in SAMPLES}
    assert not any(isinstance(file, Failure) for file in made.values())
    assert len(flaky.asked) == 8 + 4


def test_a_generator_that_never_comes_back_ends_with_what_it_drew_kept(journal):
    class Down(Flaky):
        def generate(self, captions, seeds, height_px, width_px):
            return [
                Retry("down", "no answer") if caption in ("c6", "c7") else np.zeros((8, 8, 3), np.uint8)
                for caption in captions
            ]

    with pytest.raises(TryLater, match="2 images could not be drawn"):
        draw(SAMPLES, drawing(Down()), journal, SILENT)
    later = Flaky()
    assert len(draw(SAMPLES, drawing(later), journal, SILENT)) == 8
    assert set(later.asked) == {"c6", "c7"}


def test_a_kill_costs_the_batch_in_work(journal):
    killed = Flaky(die_at=3)
    with pytest.raises(KeyboardInterrupt):
        draw(SAMPLES, drawing(killed), journal, SILENT)
    again = Flaky()
    draw(SAMPLES, drawing(again), journal, SILENT)
    assert not {"c0", "c2"} & set(again.asked)


def test_without_a_journal_a_kill_costs_the_shard(journal):
    killed = Flaky(die_at=3)
    with pytest.raises(KeyboardInterrupt):
        draw(SAMPLES, drawing(killed, journals=False), journal, SILENT)
    again = Flaky()
    draw(SAMPLES, drawing(again, journals=False), journal, SILENT)
    assert {"c0", "c2"} <= set(again.asked)


def test_a_sealed_version_keeps_no_journal(context, monkeypatch):
    monkeypatch.setattr(ScenesConfig, "journals", property(lambda self: True))
    ref = generate(prompts(context.store, TEXTS[:4], 1), DRAWING, context)
    assert context.store.files.names(f"v/images/{ref.version}/partial") == []
