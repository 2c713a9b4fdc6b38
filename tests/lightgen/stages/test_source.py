"""Stage source: rejects with reasons, versions named by content, and shards that stay when corpora grow or change."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.raw import RawCaptions, binary
from lightgen.corpora.scenes import ScenesCorpus
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus
from lightgen.corpora.tokenizer import TokenizerConfig, counter
from lightgen.errors import ConfigError, InputChanged, InputCorrupt, TooManyRejects
from lightgen.progress import Silent
from lightgen.seeds import content_id
from lightgen.stages.source import SourceConfig, cleaned, source
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context

DATA = Path(__file__).parents[3] / "../shared/data"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def made(config: SourceConfig, store: Store) -> Version:
    return store.open(source(config, Context(store)))


def text_corpus(path: Path, data: bytes, **settings) -> SourceConfig:
    path.write_bytes(data)
    return SourceConfig(corpora=[TextCorpus(path=str(path), source="test", licence="CC0-1.0")], **settings)


def lines(first: int, last: int, word: str = "caption") -> bytes:
    return b"".join(f"{word} number {number:04d}\n".encode() for number in range(first, last))


def fingerprints(version: Version) -> list[str]:
    return [receipt.fingerprint for receipt in version.manifest.shards]


class Meanwhile(Silent):
    """Does something between the inventory and the first shard."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.action()


def test_bad_rows_are_kept_with_a_reason(tmp_path: Path, store: Store) -> None:
    bad = {
        b"": "caption_empty",
        b" \t ": "caption_empty",
        b"a" * 1_000_000: "caption_too_long",
        b"word " * 200: "caption_too_long",
        b"caf\xe9 au lait": "caption_encoding",
        b"nul \0 inside": "caption_encoding",
        b"lone \xed\xa0\x80 surrogate": "caption_encoding",
        "lost \ufffd letter".encode(): "caption_encoding",
    }
    good = [b"a red bird", b"it\xc3\xa2\xe2\x82\xac\xe2\x84\xa2s  a   cafe", b"<script>alert(1)</script> {0} %s"]
    config = text_corpus(tmp_path / "a.txt", b"\n".join([*bad, *good]), max_reject_fraction=0.8)
    version = made(config, store)
    captions = ["a red bird", "it's a cafe", "alert(1) {0} %s"]
    assert version.table().column("caption").to_pylist() == captions
    assert version.table().column("tokens").to_pylist() == [3, 3, 3]
    assert version.table().column("caption_id").to_pylist() == [content_id("caption", one) for one in captions]
    rejects = version.rejects().to_pylist()
    assert [row["reason"] for row in rejects] == list(bad.values())
    assert [row["detail"].split(": ")[0] for row in rejects] == [f"{tmp_path}/a.txt:{line}" for line in range(1, 9)]
    assert all(len(row["detail"]) <= 500 for row in rejects)
    assert json.loads(rejects[4]["row"]) == {"text": "caf\\xe9 au lait", "source": "test", "licence": "CC0-1.0"}
    ids = [*(row["id"] for row in rejects), *version.table().column("id").to_pylist()]
    assert ids == sorted(ids)
    assert version.manifest.rows.taken == 11
    with pytest.raises(TooManyRejects):
        made(config.model_copy(update={"max_reject_fraction": 0.5, "min_characters": 2}), store)
    assert len(store.log("captions")) == 1


def test_bad_bytes_are_rejects_in_every_format(tmp_path: Path, store: Store) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"caption": "caf\xe9 one"}\n{"caption": "lone \\ud800"}\n{"caption": null}\n')
    (tmp_path / "a.tsv").write_bytes(b"caption\ncaf\xe9 two\n" + b"a" * 1_000_000 + b"\nfine here\n")
    pq.write_table(
        pa.table({"caption": pa.array([b"caf\xe9 three", b"fine there"], pa.binary())}), tmp_path / "a.parquet"
    )
    config = SourceConfig(
        corpora=[
            JsonlCorpus(path=str(tmp_path / "a.jsonl"), source="j"),
            TableCorpus(path=str(tmp_path / "a.tsv"), source="t"),
            ParquetCorpus(path=str(tmp_path / "a.parquet"), source="p"),
        ],
        max_reject_fraction=0.9,
    )
    version = made(config, store)
    assert version.table().column("caption").to_pylist() == ["fine here", "fine there"]
    assert version.reject_reasons == {"caption_encoding": 4, "caption_empty": 1, "caption_too_long": 1}


def test_ids_are_the_place_of_a_caption_in_hexadecimal_digits() -> None:
    """However far down a file it stands, and of however many captions of its record it is."""
    for places in (np.array([(0, 0), (1, 2), (2**36 - 1, 4095)]), np.array([(0, 0), (3, 4096)])):
        rows = RawCaptions(binary([b"a red bird"] * len(places)), places[:, 0], "s", "l", "a.txt", places[:, 1])
        made = cleaned(rows, "0" * 20, SourceConfig(corpora=[TextCorpus(path="a.txt", source="s")]), counter("words"))
        assert made.table["id"].to_pylist() == [f"{'0' * 20}{row:09x}{part:03x}" for row, part in places.tolist()]


def test_repeats_are_records_of_their_own(tmp_path: Path, store: Store) -> None:
    """Which of them stays is decided by select, that sees all shards."""
    texts = [f"caption number {number % 7}" for number in range(20)]
    version = made(text_corpus(tmp_path / "a.txt", "\n".join(texts).encode(), shard_rows=3), store)
    table = version.table()
    assert version.n_shards == 7
    assert table.column("caption").to_pylist() == texts
    assert len(set(table.column("id").to_pylist())) == 20
    assert len(set(table.column("caption_id").to_pylist())) == 7
    assert version.reject_reasons == {}


def test_the_version_is_named_by_content_not_by_path(tmp_path: Path, store: Store) -> None:
    first = made(text_corpus(tmp_path / "a.txt", b"a red bird\na cat\n"), store)
    moved = made(text_corpus(tmp_path / "b.txt", b"a red bird\na cat\n"), store)
    changed = made(text_corpus(tmp_path / "a.txt", b"a red bird\na dog\n"), store)
    assert moved.ref == first.ref
    assert changed.ref != first.ref
    assert len(store.log("captions")) == 2
    assert str(tmp_path) not in first.plan.canonical().decode()
    (given,) = json.loads(first.file("corpora.json").read_text())
    assert given == {
        "path": f"{tmp_path}/a.txt", "source": "test", "sha256": first.plan.inputs["corpora"][0]["sha256"], "rows": 2
    }  # fmt: skip


def test_what_decides_the_rows_is_in_the_name_and_what_does_not_is_not(tmp_path: Path, store: Store) -> None:
    config = text_corpus(tmp_path / "a.txt", lines(0, 9))
    (corpus,) = config.corpora
    first = made(config, store).ref

    def again(**changes) -> bool:
        return made(config.model_copy(update=changes), store).ref == first

    assert again(max_reject_fraction=0.1)
    assert again(corpora=[corpus.model_copy(update={"limit": 9})])
    assert not again(corpora=[corpus.model_copy(update={"limit": 8})])
    assert not again(corpora=[corpus.model_copy(update={"licence": "MIT"})])
    assert not again(max_tokens=4)
    assert not again(shard_rows=4)


def test_a_file_cut_short_publishes_nothing(tmp_path: Path, store: Store) -> None:
    (tmp_path / "a.jsonl").write_text('{"caption": "fine"}\n{"capt')
    with pytest.raises(InputCorrupt, match=r"a\.jsonl ends within a record"):
        made(SourceConfig(corpora=[JsonlCorpus(path=str(tmp_path / "a.jsonl"), source="t")]), store)
    assert store.log("captions") == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"0007", b"7000"),
        lambda data: data[:-20],
        lambda data: data[20:],
        lambda data: b"",
    ],
    ids=["same size", "cut short", "first line gone", "empty"],
)
def test_a_corpus_that_changes_under_the_stage_is_not_sealed(
    tmp_path: Path, store: Store, change: Callable[[bytes], bytes]
) -> None:
    """Not under the name of what it was; run again, it has a name of its own."""
    config, path = text_corpus(tmp_path / "a.txt", lines(0, 12), shard_rows=4), tmp_path / "a.txt"
    context = Context(store, progress=Meanwhile(lambda: path.write_bytes(change(lines(0, 12)))))
    with pytest.raises(InputChanged, match=r"a\.txt was changed while it was read: rows .* run the same command again"):
        source(config, context)
    assert store.log("captions") == []
    again = made(config, store)
    assert again.table().column("caption").to_pylist() == change(lines(0, 12)).decode().splitlines()
    path.write_bytes(lines(0, 12))
    whole = made(config, store)
    assert whole.table().column("caption").to_pylist() == lines(0, 12).decode().splitlines()
    assert whole.ref.version != again.ref.version


def test_rows_appended_under_the_stage_are_for_the_next_run(tmp_path: Path, store: Store) -> None:
    config, path = text_corpus(tmp_path / "a.txt", lines(0, 12), shard_rows=4), tmp_path / "a.txt"
    context = Context(store, progress=Meanwhile(lambda: path.write_bytes(lines(0, 15))))
    assert source(config, context).rows == 12
    assert made(config, store).rows == 15


def grown(kind: str, path: Path, rows: int) -> SourceConfig:
    """A corpus of `rows` rows in shards of ten."""
    texts = lines(0, rows).decode().splitlines()
    match kind:
        case "text":
            path.write_bytes(lines(0, rows))
            corpus = TextCorpus(path=str(path), source="test")
        case "unended text":
            path.write_bytes(lines(0, rows)[:-1])
            corpus = TextCorpus(path=str(path), source="test")
        case "jsonl":
            path.write_text("\n\n".join(json.dumps({"caption": text}) for text in texts))
            return SourceConfig(corpora=[JsonlCorpus(path=str(path), source="test")], shard_rows=20)
        case "csv":
            path.write_text("id,caption\n" + "".join(f'{place},"{text}"\n' for place, text in enumerate(texts)))
            corpus = TableCorpus(path=str(path), separator=",", source="test")
        case "parquet":
            # Written once more, with other row groups, as nobody appends to Parquet.
            pq.write_table(pa.table({"caption": texts}), path, row_group_size=7 + rows)
            corpus = ParquetCorpus(path=str(path), source="test")
        case "limit":
            path.write_bytes(lines(0, 100))
            corpus = TextCorpus(path=str(path), source="test", limit=rows)
        case _:
            corpus = ScenesCorpus(split="train", count=-(-rows // 6) * 6)
    return SourceConfig(corpora=[corpus], shard_rows=10)


GROWING = ("text", "unended text", "jsonl", "csv", "parquet", "limit", "scenes")


@pytest.mark.parametrize("kind", GROWING)
def test_rows_that_are_added_leave_the_shards_before_alone(tmp_path: Path, store: Store, kind: str) -> None:
    """Only the last shard, which was not full, takes rows more: rows made before are found again by their shards."""
    before = made(grown(kind, tmp_path / "corpus", 34), store)
    after = made(grown(kind, tmp_path / "corpus", 51), store)
    assert (before.n_shards, after.n_shards) == (4, 6)
    assert fingerprints(after)[:3] == fingerprints(before)[:3]
    assert fingerprints(after)[3] != fingerprints(before)[3]
    old, new = before.table(3), after.table(3)
    assert new.slice(0, old.num_rows).equals(old)
    more = made(grown(kind, tmp_path / "corpus", 60), store)
    assert fingerprints(more)[:5] == fingerprints(after)[:5]


def test_files_that_are_added_leave_the_shards_of_the_others_alone(tmp_path: Path, store: Store) -> None:
    for name, word in (("a", "caption"), ("b", "title"), ("c", "label")):
        (tmp_path / name).write_bytes(lines(0, 25, word))
    first, second, third = (TextCorpus(path=str(tmp_path / name), source="test") for name in "abc")
    elsewhere = third.model_copy(update={"source": "other"})
    one, two, three = (
        made(SourceConfig(corpora=corpora, shard_rows=10), store)
        for corpora in ([first], [first, second], [elsewhere, first, second])
    )
    assert fingerprints(two)[:3] == fingerprints(one)
    assert fingerprints(three)[3:] == fingerprints(two)
    assert len({*three.table().column("id").to_pylist()}) == 75
    (tmp_path / "a").write_bytes(lines(0, 40))
    grown_before_others = made(SourceConfig(corpora=[first, second], shard_rows=10), store)
    assert set(fingerprints(grown_before_others)) >= {*fingerprints(two)} - {fingerprints(two)[2]}


def test_the_first_records_of_a_source_have_the_smallest_ids(tmp_path: Path, store: Store) -> None:
    """So that of equal captions the one that was there first stays."""
    (tmp_path / "a").write_bytes(lines(0, 300))
    (tmp_path / "b").write_bytes(lines(0, 5))
    files = [TextCorpus(path=str(tmp_path / name), source="test") for name in "ab"]
    ids = made(SourceConfig(corpora=files), store).table().column("id").to_pylist()
    assert ids == sorted(ids)
    assert len(set(ids)) == 305


def test_a_kill_costs_the_shard_in_work_only(tmp_path: Path, store: Store) -> None:
    told: list[tuple[int, int]] = []

    class Killed(Silent):
        def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
            told.append((total, done))

        def advance(self, count: int, note: str = "") -> None:
            if len(told) == 1 and sum(receipts) >= 12:
                raise KeyboardInterrupt
            receipts.append(count)

    receipts: list[int] = []
    config = text_corpus(tmp_path / "a.txt", lines(0, 40), shard_rows=4)
    with pytest.raises(KeyboardInterrupt):
        source(config, Context(store, progress=Killed()))
    source(config, Context(store, progress=Killed()))
    assert told == [(40, 0), (40, 16)]
    assert sum(receipts) == 12 + 24


def test_an_empty_corpus_is_an_empty_version(tmp_path: Path, store: Store) -> None:
    version = made(text_corpus(tmp_path / "a.txt", b""), store)
    assert (version.rows, version.n_shards) == (0, 1)
    assert version.table().num_rows == 0


def test_too_many_shards_are_told_before_any_work(tmp_path: Path, store: Store) -> None:
    config = text_corpus(tmp_path / "a.txt", b"a b\n" * 100_000, shard_rows=1)
    with pytest.raises(ConfigError, match="100,000 shards, at most 99,999 are possible: raise shard_rows"):
        made(config, store)


def test_the_tokenizer_is_in_the_name_by_what_it_is(tmp_path: Path, store: Store) -> None:
    config = text_corpus(tmp_path / "a.txt", b"a red bird\n")
    unpinned = config.model_copy(update={"tokenizer": TokenizerConfig(model="google/flan-t5-xxl")})
    with pytest.raises(ConfigError, match="RevisionNotPinned"):
        made(unpinned, store)
    assert made(config, store).plan.config["tokenizer"] == "words"


def test_s3_gives_what_the_disk_gives(s3_uri: str, s3_endpoint: str, tmp_path: Path, store: Store) -> None:
    import s3fs

    files = s3fs.S3FileSystem(endpoint_url=s3_endpoint, skip_instance_cache=True)
    config = text_corpus(tmp_path / "a.txt", lines(0, 30), shard_rows=10)
    files.put_file(f"{tmp_path}/a.txt", f"{s3_uri}/a.txt")
    remote = config.model_copy(update={"corpora": [config.corpora[0].model_copy(update={"path": f"{s3_uri}/a.txt"})]})
    other = open_or_create(str(tmp_path / "other"))
    assert made(remote, other).ref.version == made(config, store).ref.version
    files.pipe_file(f"{s3_uri}/b.txt", lines(0, 30))
    changing = config.model_copy(update={"corpora": [config.corpora[0].model_copy(update={"path": f"{s3_uri}/b.txt"})]})
    third = open_or_create(str(tmp_path / "third"))
    change = Meanwhile(lambda: files.pipe_file(f"{s3_uri}/b.txt", lines(30, 60)))
    with pytest.raises(InputChanged):
        source(changing, Context(third, progress=change))
    assert third.log("captions") == []


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real captions is not beside the checkout")
def test_real_corpora(store: Store) -> None:
    common = {"limit": 1500}
    config = SourceConfig(
        corpora=[
            TableCorpus(
                path=str(DATA / "coco_val2017_captions.tsv"),
                header=["image_id", "ann_id", "caption"],
                source="coco",
                licence="CC-BY-4.0",
                **common,
            ),
            TableCorpus(path=str(DATA / "parti_prompts.tsv"), column="Prompt", source="parti", licence="Apache-2.0"),
            ParquetCorpus(
                path=str(DATA / "laion400m_sample_10k.parquet"), column="TEXT", source="laion", licence="-", **common
            ),
        ]
    )
    version = made(config, store)
    table = version.table()
    counts = {item["values"]: item["counts"] for item in table.column("source").value_counts().to_pylist()}
    assert min(counts["coco"], counts["laion"]) > 1450
    assert counts["parti"] > 1600
    assert version.rows + sum(version.reject_reasons.values()) == 1500 + 1632 + 1500


MILLION = """
import resource, sys
from lightgen.corpora.text import TextCorpus
from lightgen.stages.source import SourceConfig, cleaned, source
from lightgen.storage.store import open_or_create
from lightgen.work import Context

folder, rows = sys.argv[1:]
corpus = TextCorpus(path=f"{folder}/captions.txt", source="test", limit=int(rows))
store = open_or_create(f"{folder}/store-{rows}")
assert source(SourceConfig(corpora=[corpus], shard_rows=1000), Context(store)).rows == int(rows)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kib(folder: Path, rows: int) -> int:
    command = [sys.executable, "-c", MILLION, str(folder), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    return int(done.stdout)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_bytes(
        b"".join(b"a caption of an ordinary length, as people write, number %d\n" % number for number in range(500_000))
    )
    assert peak_kib(tmp_path, 500_000) < peak_kib(tmp_path, 5_000) + 100 * 1024
