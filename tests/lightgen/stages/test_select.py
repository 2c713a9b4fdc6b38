"""Stage select: who is thrown away and why, whatever the order, and what remains is more diverse."""

import json
import logging
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.scenes import ScenesCorpus
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus
from lightgen.decisions.contamination import ContaminationConfig
from lightgen.decisions.near_duplicates import NearDuplicateConfig
from lightgen.decisions.sketch import piled, sketcher
from lightgen.errors import InputChanged
from lightgen.progress import Silent
from lightgen.seeds import content_id
from lightgen.stages.select import SelectConfig, narrow, select
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context
from schemas.captions import SCHEMA
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import seal

DATA = Path(__file__).parents[3] / "../shared/data"
TEXTS = [
    "a large passenger jet sitting on top of an airport runway in the rain",
    "a large passenger jet sitting on top of an airport runway in the sun",
    "A man blowing out candles on a cake",
    "a man blowing out candles on a cake.",
    "a photo of a red bench",
    "two green birds above a small boat",
    "three yellow cups on a wooden table",
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def captions(store: Store, folder: Path, texts: list[str], shard_rows: int = 3) -> ArtifactRef:
    (folder / "captions.txt").write_text("\n".join(texts))
    corpus = TextCorpus(path=str(folder / "captions.txt"), source="test", licence="CC0-1.0")
    return source(SourceConfig(corpora=[corpus], shard_rows=shard_rows), Context(store))


def selected(given: ArtifactRef, config: SelectConfig, store: Store) -> Version:
    return store.open(select(given, config, Context(store)))


def evaluation(folder: Path, prompts: list[str]) -> list[JsonlCorpus]:
    (folder / "eval.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
    return [JsonlCorpus(path=str(folder / "eval.jsonl"), field="prompt", source="eval")]


def summary(version: Version) -> dict:
    return json.loads(version.file("summary.json").read_text())


def reasons(version: Version) -> dict[str, dict]:
    """A reject of each reason."""
    return {row["reason"]: row for row in version.rejects().to_pylist()}


def test_everyone_who_goes_has_a_reason(store: Store, tmp_path: Path) -> None:
    given = captions(store, tmp_path, TEXTS)
    config = SelectConfig(evaluation=evaluation(tmp_path, ["A photo of a red bench!"]), count=3)
    version = selected(given, config, store)
    records = store.open(given).table().to_pylist()
    assert version.n_shards == store.open(given).n_shards == 3
    assert version.reject_reasons == {"duplicate_exact": 1, "duplicate_near": 1, "contaminated": 1, "not_chosen": 1}
    found = reasons(version)
    assert found["contaminated"]["detail"] == "equals the evaluation prompt 'A photo of a red bench!'"
    assert found["duplicate_exact"]["id"] == records[3]["id"]
    assert found["duplicate_exact"]["detail"] == f"same words as {records[2]['id']}: {TEXTS[2]}"
    assert found["duplicate_near"]["detail"].startswith(f"near-duplicate of {records[0]['id'][:-1]}")
    assert json.loads(found["not_chosen"]["row"])["caption"] in TEXTS
    table = version.table()
    assert sorted(table.column("rank").to_pylist()) == [0, 1, 2]
    assert max(table.column("novelty").to_pylist()) == 1
    assert table.column("image_id").to_pylist() == [None] * 3
    for shard in range(3):
        before = store.open(given).table(shard).column("caption_id").to_pylist()
        after = version.table(shard).column("id").to_pylist()
        assert after == [key for key in before if key in after]
    figures = summary(version)
    assert (figures["captions"], figures["left"], figures["chosen"], figures["contaminated"]) == (7, 4, 3, 1)
    assert figures["vendi_captions"] > figures["vendi_chosen"] > 2


def test_of_equal_captions_the_first_record_stays(store: Store, tmp_path: Path) -> None:
    """Its prompt is then there first, too: a corpus that grows takes no prompt from the shards before."""
    texts = [f"a caption of kind {number % 40}" for number in range(100)]
    config = SelectConfig(near_duplicates=None)
    version = selected(captions(store, tmp_path, texts, 10), config, store)
    assert version.table().column("caption").to_pylist() == texts[:40]
    assert [version.table(shard).num_rows for shard in range(10)] == [10] * 4 + [0] * 6
    assert version.reject_reasons == {"duplicate_exact": 60}
    ids = [content_id("caption", text) for text in texts[:40]]
    assert version.table().column("id").to_pylist() == ids
    grown = selected(captions(store, tmp_path, [*texts, *TEXTS, *texts], 10), config, store)
    for shard in range(10):
        rows = grown.table(shard).select(["id", "caption"])
        assert rows.equals(version.table(shard).select(["id", "caption"]))


def test_prompts_are_named_by_their_text_not_by_their_record(store: Store, tmp_path: Path) -> None:
    config = SelectConfig(near_duplicates=None)
    first = selected(captions(store, tmp_path, TEXTS), config, store).table()
    other = selected(captions(store, tmp_path, ["something else", *reversed(TEXTS)]), config, store).table()
    same = {row["id"]: row["caption"] for row in first.to_pylist()}
    assert {row["caption"]: row["id"] for row in other.to_pylist()}["a photo of a red bench"] in same
    assert len({row["id"] for row in other.to_pylist()} & set(same)) == 5  # of the two men the other one stays


def test_a_sealed_selection_decides_nothing_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = captions(store, tmp_path, TEXTS)
    first = select(given, SelectConfig(), Context(store))
    monkeypatch.setattr("lightgen.stages.select.select_captions", lambda *_: pytest.fail("decided again"))
    assert select(given, SelectConfig(), Context(store)) == first
    with pytest.raises(pytest.fail.Exception, match="decided again"):
        select(given, SelectConfig(count=2), Context(store))


def test_changed_evaluation_prompts_are_another_version(store: Store, tmp_path: Path) -> None:
    given = captions(store, tmp_path, TEXTS)
    config = SelectConfig(evaluation=evaluation(tmp_path, ["a photo of a red bench"]))
    first = select(given, config, Context(store))
    evaluation(tmp_path, ["two green birds above a small boat"])
    other = select(given, config, Context(store))
    assert other != first
    assert "a photo of a red bench" in store.open(other).table().column("caption").to_pylist()


def test_a_version_says_which_evaluation_prompts_were_used(store: Store, tmp_path: Path) -> None:
    """By digest and number in its name, by path beside it: a list that is moved is the same list."""
    given = captions(store, tmp_path, TEXTS)
    (listed,) = evaluation(tmp_path, ["a photo of a red bench", "a bear", "a bear"])
    corpora = [listed, ScenesCorpus(split="test", count=6)]
    version = selected(given, SelectConfig(evaluation=corpora), store)
    prompts, scenes = version.plan.inputs["evaluation"]
    assert (prompts["source"], prompts["prompts"], len(prompts["digest"])) == ("eval", 2, 32)
    assert (scenes["source"], scenes["prompts"]) == ("scenes/test", 6)
    assert summary(version)["evaluation"] == [
        {"path": f"{tmp_path}/eval.jsonl", **prompts},
        {"path": "scenes:test", **scenes},
    ]
    moved = listed.model_copy(update={"path": str((tmp_path / "eval.jsonl").rename(tmp_path / "moved.jsonl"))})
    assert selected(given, SelectConfig(evaluation=[moved, corpora[1]]), store).ref == version.ref
    assert selected(given, SelectConfig(evaluation=[moved]), store).ref != version.ref


def test_rows_of_an_evaluation_that_hold_no_prompt_are_told(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (listed,) = evaluation(tmp_path, ["a photo of a red bench"])
    with Path(listed.path).open("ab") as file:
        file.write(b'\n{"prompt": null}\n{"prompt": "a caf\xe9"}\nno json\n')
    version = selected(captions(store, tmp_path, TEXTS), SelectConfig(evaluation=[listed]), store)
    (facts,) = summary(version)["evaluation"]
    assert (facts["prompts"], facts["unread"]) == (1, 3)
    assert "3 rows hold no prompt" in caplog.text
    assert f"{listed.path}:2: no text" in caplog.text


def test_evaluation_prompts_that_change_under_the_stage_are_told(store: Store, tmp_path: Path) -> None:
    class Meanwhile(Silent):
        def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
            evaluation(tmp_path, ["another bear"])

    given = captions(store, tmp_path, TEXTS)
    config = SelectConfig(evaluation=evaluation(tmp_path, ["a bear"]))
    with pytest.raises(InputChanged, match=r"select\.evaluation: the lists hold .* Run the same command again"):
        select(given, config, Context(store, progress=Meanwhile()))
    assert store.log("prompts") == []


def test_a_count_that_cannot_be_had_is_said(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = captions(store, tmp_path, TEXTS)
    with caplog.at_level(logging.WARNING):
        version = selected(given, SelectConfig(count=2_000_000), store)
    assert "count asks for 2,000,000 prompts, but of 7 captions only 5 are left" in caplog.text
    assert (summary(version)["asked"], summary(version)["chosen"], version.rows) == (2_000_000, 5, 5)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        selected(given, SelectConfig(count=5), store)
    assert caplog.text == ""


def test_that_no_caption_is_left_is_said_with_why(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = captions(store, tmp_path, ["a red bear", "A red bear!"])
    with caplog.at_level(logging.WARNING):
        version = selected(given, SelectConfig(evaluation=evaluation(tmp_path, ["a red bear"])), store)
    assert version.rows == 0
    assert "of 2 captions none is left (1 duplicate_exact, 1 contaminated)" in caplog.text
    assert "change the rules" in caplog.text


def test_null_switches_near_duplicates_off(store: Store, tmp_path: Path) -> None:
    given = captions(store, tmp_path, TEXTS)
    version = selected(given, SelectConfig(near_duplicates=None), store)
    assert version.reject_reasons == {"duplicate_exact": 1}


def test_an_empty_corpus_gives_an_empty_selection(store: Store, tmp_path: Path) -> None:
    given = captions(store, tmp_path, [])
    assert selected(given, SelectConfig(count=5), store).rows == 0


def test_nothing_vanishes_in_any_shard(store: Store, tmp_path: Path) -> None:
    rng = random.Random(1)
    texts = [
        " ".join(rng.choices(["red", "blue", "cat", "dog", "big", "old"], k=rng.randint(1, 5))) for _ in range(400)
    ]
    given = store.open(captions(store, tmp_path, texts, shard_rows=30))
    config = SelectConfig(evaluation=evaluation(tmp_path, ["red cat big", "old dog"]), count=50)
    version = selected(given.ref, config, store)
    for shard in range(given.n_shards):
        lost = set(version.rejects(shard).column("id").to_pylist())
        records = given.table(shard).to_pylist()
        left = [row["caption_id"] for row in records if row["id"] not in lost]
        assert version.table(shard).column("id").to_pylist() == left
        assert len(left) + len(lost) == len(records)
    assert {"duplicate_exact", "contaminated", "not_chosen"} <= set(version.reject_reasons)
    assert summary(version)["captions"] == 400


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real captions is not beside the checkout")
def test_choosing_from_real_captions_beats_chance(store: Store) -> None:
    coco = TableCorpus(
        path=str(DATA / "coco_val2017_captions.tsv"),
        header=["image", "annotation", "caption"],
        source="coco",
        limit=3000,
    )
    geneval = JsonlCorpus(path=str(DATA / "geneval_evaluation_metadata.jsonl"), field="prompt", source="geneval")
    given = source(SourceConfig(corpora=[coco]), Context(store))
    config = SelectConfig(evaluation=[geneval], contamination=ContaminationConfig(similarity=0.7), count=200)
    version = selected(given, config, store)
    figures = summary(version)
    assert version.rows == 200
    assert figures["vendi_chosen"] > 1.05 * figures["vendi_random"]


def sealed_captions(store: Store, n: int, shard_rows: int) -> Version:
    """CAPTIONS of ordinary length without a corpus, every tenth a repeat."""
    shards = []
    for start in range(0, n, shard_rows):
        numbers = np.arange(start, min(start + shard_rows, n))
        texts = [f"a caption of an ordinary length as people write them, number {at - at % 10 // 9}" for at in numbers]
        columns = {
            "id": [f"{at:032x}" for at in numbers], "caption_id": [content_id("caption", text) for text in texts],
            "caption": texts, "tokens": [11] * len(texts), "source": ["test"] * len(texts),
            "licence": ["none"] * len(texts),
        }  # fmt: skip
        shards.append(ShardOutput(pa.table(columns, schema=SCHEMA), len(texts), SCHEMA))
    return store.open(seal(store, "captions", shards))


@pytest.mark.parametrize("n", [20_000, pytest.param(2_000_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_memory_a_caption_is_bounded(store: Store, tmp_path: Path, n: int) -> None:
    """Of all that select holds before near-duplicates and the choice: Arrow's memory, and that of Python and numpy."""
    given = sealed_captions(store, n, shard_rows=2000)
    pool = pa.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    sketch = sketcher(NearDuplicateConfig(), ["something that nobody writes"], ContaminationConfig())
    piles = piled(map(sketch, narrow(given, [])), tmp_path)
    arrow, python = pool.bytes_allocated() - before, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(piles.ids), piles.why) == (n, {})
    assert (arrow + python) / n < 300
