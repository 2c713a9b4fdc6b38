"""Stage `score`: a row for every image, in order, with what the scorer said of its pixels, or why it said nothing."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import TASKS, captions, parse
from lightgen.scorers.base import Unscored, answer_table
from lightgen.scorers.pixels import PixelsConfig, PixelsScorer
from lightgen.scorers.scenes import ScenesDetector, ScenesDetectorConfig
from lightgen.stages.score import ScoreConfig, score, score_batch
from lightgen.storage.pixels import BadImage, Pixels, encode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context
from schemas.scores import ROW
from tests.lightgen.sealed import image, images

PIXELS = ScoreConfig(scorer=PixelsConfig())
SUM = pa.schema([pa.field("sum", pa.int64())])


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def scenes(count: int) -> list[np.ndarray]:
    texts = [next(iter(captions("train", task))) for task in TASKS]
    found = [parse(text) for text in texts]
    return [draw(scene, 32, seed) for seed in range(count) for scene in [found[seed % len(found)]] if scene]


class Sum:
    """Adds up the pixels, and keeps how many images it was shown together."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        self.shown.append(len(images))
        odd = {caption for caption in captions if caption == "odd"}
        return answer_table(
            SUM,
            [
                Unscored("odd_caption") if caption in odd else {"sum": int(one.sum())}
                for one, caption in zip(images, captions, strict=True)
            ],
        )


def test_every_image_has_a_row_in_its_shard_with_the_scorers_answer(store: Store) -> None:
    drawn = images(store, [image(str(n), encode_image(one, "png")) for n, one in enumerate(scenes(9))], 2)
    for scorer in (PixelsConfig(), ScenesDetectorConfig()):
        version, source = store.open(score(drawn, ScoreConfig(scorer=scorer), Context(store))), store.open(drawn)
        direct = PixelsScorer() if scorer.kind == "pixels" else ScenesDetector()
        everything = direct.score(scenes(9), [""] * 9)
        assert version.n_shards == 2
        for shard in range(2):
            assert version.table(shard)["id"].equals(source.table(shard)["id"])
        found = version.table().select(everything.column_names)
        assert found.to_pylist() == everything.to_pylist()


def test_answers_do_not_depend_on_the_batch_or_the_shards(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprints = set()
    for batch, n_shards in ((1, 1), (4, 1), (64, 3)):
        monkeypatch.setattr(PixelsConfig, "batch", property(lambda _, batch=batch: batch))
        own = open_or_create(str(tmp_path / str(batch)))
        rows = [image(str(n), encode_image(one, "png")) for n, one in enumerate(scenes(9))]
        fingerprints.add(score(images(own, rows, n_shards), PIXELS, Context(own)).fingerprint)
    assert len(fingerprints) == 1


def rows_of(facts: list[dict]) -> pa.Table:
    rows = [{**image(str(n), b"")[0], **one} for n, one in enumerate(facts)]
    return pa.Table.from_pylist(rows, schema=pa.schema(ROW))


def test_a_scorer_is_never_shown_what_is_no_image_and_order_stays() -> None:
    bad = BadImage("image_truncated", "it ends early")
    pixels = [bad, *scenes(1), bad, *scenes(3)[1:]]
    rows = rows_of([{"caption": "odd" if n == 3 else ""} for n in range(5)])
    scorer = Sum()
    found = score_batch(rows, pixels, scorer, SUM).to_pylist()
    assert scorer.shown == [3]
    assert [row["id"] for row in found] == rows["id"].to_pylist()
    assert [row["unscored"] for row in found] == ["image_truncated", "", "image_truncated", "odd_caption", ""]
    assert found[0]["unscored_detail"] == "it ends early"
    assert [row["sum"] for row in found] == [
        None, int(scenes(1)[0].sum()), None, None, int(scenes(3)[2].sum()),
    ]  # fmt: skip


def test_a_batch_without_any_image_is_not_shown_at_all() -> None:
    """Models fail on an empty batch."""
    scorer = Sum()
    found = score_batch(rows_of([{}, {}]), [BadImage("empty_file", "0 bytes")] * 2, scorer, SUM)
    assert scorer.shown == []
    assert found["unscored"].to_pylist() == ["empty_file"] * 2


def test_no_images_are_no_scores(store: Store) -> None:
    assert score(images(store, []), PIXELS, Context(store)).rows == 0
