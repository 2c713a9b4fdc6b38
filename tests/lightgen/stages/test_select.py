"""Stage select: who is thrown away and why, whatever the order, and what remains is more diverse."""

import json
import random
from pathlib import Path

import pytest

from lightgen.corpora.files import JsonlCorpus, TableCorpus, TextCorpus
from lightgen.decisions.contamination import ContaminationConfig
from lightgen.decisions.near_duplicates import NearDuplicateConfig
from lightgen.seeds import content_id
from lightgen.stages.select import SelectConfig, judge, select
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.store import Store, open_or_create
from schemas.ref import ArtifactRef

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


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def captions(store: Store, folder: Path, texts: list[str], shard_rows: int = 3) -> ArtifactRef:
    (folder / "captions.txt").write_text("\n".join(texts))
    corpus = TextCorpus(path=str(folder / "captions.txt"), source="test", licence="CC0-1.0")
    return source(SourceConfig(corpora=[corpus], shard_rows=shard_rows), store, seed=0)


def evaluation(folder: Path, prompts: list[str]) -> list[JsonlCorpus]:
    (folder / "eval.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in prompts))
    return [JsonlCorpus(path=str(folder / "eval.jsonl"), field="prompt", source="eval")]


def test_everyone_who_goes_has_a_reason(store: Store, tmp_path: Path) -> None:
    given = captions(store, tmp_path, TEXTS)
    config = SelectConfig(evaluation=evaluation(tmp_path, ["A photo of a red bench!"]), count=3)
    version = store.open(select(given, config, store, seed=0))
    assert version.n_shards == store.open(given).n_shards == 3
    assert version.reject_reasons == {"duplicate_exact": 1, "duplicate_near": 1, "contaminated": 1, "not_chosen": 1}
    details = {row["reason"]: row["detail"] for row in version.rejects().to_pylist()}
    assert details["contaminated"] == "equals the evaluation prompt 'A photo of a red bench!'"
    assert "near-duplicate of" in details["duplicate_near"]
    table = version.table()
    assert sorted(table.column("rank").to_pylist()) == [0, 1, 2]
    assert max(table.column("novelty").to_pylist()) == 2
    for shard in range(3):
        before = store.open(given).table(shard).column("id").to_pylist()
        after = version.table(shard).column("id").to_pylist()
        assert after == [key for key in before if key in after]
    summary = json.loads(version.file("summary.json").read_text())
    assert summary["captions"] == 7
    assert summary["chosen"] == 3
    assert summary["contaminated"] == 1
    assert summary["vendi_captions"] > summary["vendi_chosen"] > 2


def test_a_sealed_selection_decides_nothing_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = captions(store, tmp_path, TEXTS)
    first = select(given, SelectConfig(), store, seed=0)
    monkeypatch.setattr("lightgen.stages.select.judge", lambda *_: pytest.fail("decided again"))
    assert select(given, SelectConfig(), store, seed=0) == first
    with pytest.raises(pytest.fail.Exception, match="decided again"):
        select(given, SelectConfig(count=2), store, seed=0)


def test_changed_evaluation_prompts_are_another_version(store: Store, tmp_path: Path) -> None:
    given = captions(store, tmp_path, TEXTS)
    config = SelectConfig(evaluation=evaluation(tmp_path, ["a photo of a red bench"]))
    first = select(given, config, store, seed=0)
    evaluation(tmp_path, ["two green birds above a small boat"])
    other = select(given, config, store, seed=0)
    assert other != first
    assert "a photo of a red bench" in store.open(other).table().column("caption").to_pylist()


def test_null_switches_near_duplicates_off(store: Store, tmp_path: Path) -> None:
    given = captions(store, tmp_path, TEXTS)
    version = store.open(select(given, SelectConfig(near_duplicates=None), store, seed=0))
    assert version.reject_reasons == {"duplicate_exact": 1}


def test_the_choice_does_not_depend_on_the_order() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(["red", "blue", "cat", "dog", "big", "old", "car"], k=6)) for _ in range(300)]
    texts = list(dict.fromkeys(texts))
    config = SelectConfig(near_duplicates=NearDuplicateConfig(threshold=0.6), count=60, embedding_dim=128)
    chosen = []
    for _ in range(3):
        ids = [content_id(text) for text in texts]
        verdicts = judge(texts, [6] * len(texts), ids, config, ["red cat big"])
        chosen.append({texts[i]: rank for i, rank in verdicts.rank.items()})
        assert len(verdicts.rank) == 60
        rng.shuffle(texts)
    assert chosen[0] == chosen[1] == chosen[2]


def test_an_empty_corpus_gives_an_empty_selection(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    corpus = TextCorpus(path=str(tmp_path / "empty.txt"), source="test")
    given = source(SourceConfig(corpora=[corpus]), store, seed=0)
    assert store.open(select(given, SelectConfig(count=5), store, seed=0)).rows == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real captions is not beside the checkout")
def test_choosing_from_real_captions_beats_chance(store: Store) -> None:
    coco = TableCorpus(
        path=str(DATA / "coco_val2017_captions.tsv"),
        header=["image", "annotation", "caption"],
        source="coco",
        limit=3000,
    )
    geneval = JsonlCorpus(path=str(DATA / "geneval_evaluation_metadata.jsonl"), field="prompt", source="geneval")
    given = source(SourceConfig(corpora=[coco]), store, seed=0)
    config = SelectConfig(evaluation=[geneval], contamination=ContaminationConfig(similarity=0.7), count=200)
    version = store.open(select(given, config, store, seed=0))
    summary = json.loads(version.file("summary.json").read_text())
    assert version.rows == 200
    assert summary["vendi_chosen"] > 1.05 * summary["vendi_random"]
