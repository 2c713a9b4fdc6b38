"""Stage source: cleaning, rejects with reasons, and versions named by content."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.corpora.files import JsonlCorpus, ParquetCorpus, TableCorpus, TextCorpus
from lightgen.errors import InputCorrupt, TooManyRejects
from lightgen.stages.source import SourceConfig, source, tokenizer
from lightgen.storage.store import Store, open_or_create

DATA = Path(__file__).parents[3] / "../shared/data"


def store_at(path: Path) -> Store:
    return open_or_create(str(path))


def text_corpus(path: Path, data: bytes, **settings) -> SourceConfig:
    path.write_bytes(data)
    return SourceConfig(corpora=[TextCorpus(path=str(path), source="test", licence="CC0-1.0")], **settings)


def test_bad_rows_are_kept_with_a_reason(tmp_path: Path) -> None:
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
    store = store_at(tmp_path / "store")
    version = store.open(source(config, store, seed=0))
    assert version.table().column("caption").to_pylist() == [
        "a red bird",
        "it's a cafe",
        "<script>alert(1)</script> {0} %s",
    ]
    assert version.table().column("tokens").to_pylist() == [3, 3, 3]
    rejects = version.rejects().to_pylist()
    assert [row["reason"] for row in rejects] == list(bad.values())
    assert all(len(row["detail"]) <= 500 and "a.txt:" in row["detail"] for row in rejects)
    assert json.loads(rejects[4]["row"])["text"] == "caf\\xe9 au lait"
    with pytest.raises(TooManyRejects):
        source(config.model_copy(update={"max_reject_fraction": 0.5, "min_characters": 2}), store, seed=0)
    assert len(store.log("captions")) == 1


def test_bad_bytes_are_rejects_in_every_format(tmp_path: Path) -> None:
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
    store = store_at(tmp_path / "store")
    version = store.open(source(config, store, seed=0))
    assert version.table().column("caption").to_pylist() == ["fine here", "fine there"]
    assert version.reject_reasons == {"caption_encoding": 4, "caption_empty": 1, "caption_too_long": 1}


def test_repeats_across_shards_are_rejects_and_the_first_stays(tmp_path: Path) -> None:
    lines = [f"caption number {i % 7}" for i in range(20)]
    config = text_corpus(tmp_path / "a.txt", "\n".join(lines).encode(), shard_rows=3, max_reject_fraction=1.0)
    store = store_at(tmp_path / "store")
    version = store.open(source(config, store, seed=0))
    assert version.n_shards == 7
    assert version.table().column("caption").to_pylist() == lines[:7]
    assert version.reject_reasons == {"duplicate_exact": 13}
    assert {row["detail"].split()[-1] for row in version.rejects().to_pylist()} <= set(
        version.table().column("id").to_pylist()
    )


def test_the_version_is_named_by_content_not_by_path(tmp_path: Path) -> None:
    store = store_at(tmp_path / "store")
    first = source(text_corpus(tmp_path / "a.txt", b"a red bird\na cat\n"), store, seed=0)
    moved = source(text_corpus(tmp_path / "b.txt", b"a red bird\na cat\n"), store, seed=0)
    changed = source(text_corpus(tmp_path / "a.txt", b"a red bird\na dog\n"), store, seed=0)
    assert moved == first
    assert changed != first
    assert len(store.log("captions")) == 2


def test_a_file_cut_short_publishes_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path / "store")
    (tmp_path / "a.jsonl").write_text('{"caption": "fine"}\n{"capt')
    with pytest.raises(InputCorrupt, match=r"a\.jsonl:2"):
        source(SourceConfig(corpora=[JsonlCorpus(path=str(tmp_path / "a.jsonl"), source="t")]), store, seed=0)
    assert store.log("captions") == []


def test_tokens_of_a_transformers_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "cat": 2}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(tmp_path / "tokenizer")
    # Whitespace() splits at punctuation, the words of `words` do not.
    assert tokenizer(str(tmp_path / "tokenizer"))("a cat, a dog") == 5
    assert tokenizer("words")("a cat, a dog") == 4


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real captions is not beside the checkout")
def test_real_corpora(tmp_path: Path) -> None:
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
    store = store_at(tmp_path / "store")
    ref = source(config, store, seed=0)
    table = store.open(ref).table()
    counts = {item["values"]: item["counts"] for item in table.column("source").value_counts().to_pylist()}
    assert min(counts["coco"], counts["laion"]) > 1450
    assert counts["parti"] > 1600
    assert ref.rows + sum(store.open(ref).reject_reasons.values()) == 1500 + 1632 + 1500
