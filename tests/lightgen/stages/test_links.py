"""Stage `links`: addresses by their text, captions, rules over the columns; all that is refused is kept with why."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.config import problems_of
from lightgen.corpora.laion import LaionLinks
from lightgen.decisions.rules import Rule
from lightgen.fetch import loopback
from lightgen.seeds import content_id
from lightgen.stages.fetch import FetchConfig, fetch
from lightgen.stages.links import LinksConfig, links, yields
from lightgen.storage.store import open_or_create
from lightgen.storage.verify import verify
from lightgen.work import Context
from schemas.links import SCHEMA

ROWS = [
    ("http://Pictures.example/a.jpg", "A  caf\u00c3\u00a9 &amp; more", 7.0, 512.0),
    ("http://pictures.example/b.jpg", "a low one", 6.4, 512.0),
    ("http://pictures.example/c.jpg", "a small one", 7.0, 100.0),
    ("http://pictures.example/d.jpg", "of unknown worth", None, 512.0),
    ("http://pictures.example/e.jpg", "of unknown size", 7.0, float("nan")),
    ("ftp://pictures.example/f.jpg", "another scheme", 7.0, 512.0),
    ("http://127.1/g.jpg", "this machine", 7.0, 512.0),
    ("http://me:secret@pictures.example/h.jpg", "with a password", 7.0, 512.0),
    ("not an address", "no address", 7.0, 512.0),
    (None, "nothing", 7.0, 512.0),
    ("http://pictures.example/i.jpg", "", 7.0, 512.0),
    ("http://pictures.example/j.jpg", "x" * 2001, 7.0, 512.0),
    ("http://pictures.example/k.jpg", "the last", 6.5, 256.0),
]
SAMPLE = Path(__file__).parents[3] / ".." / "shared" / "data" / "laion400m_sample_10k.parquet"
RULES = (Rule(column="aesthetic", least=6.5), Rule(column="width", least=256, reason="too_narrow"))


@pytest.fixture
def context(tmp_path):
    return Context(open_or_create(str(tmp_path / "store")), seed=1)


@pytest.fixture
def table(tmp_path):
    url, text, aesthetic, width = zip(*ROWS, strict=True)
    columns = {"URL": url, "TEXT": text, "AESTHETIC_SCORE": pa.array(aesthetic, pa.float32()), "WIDTH": width}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    return str(tmp_path / "a.parquet")


def config_of(path, **changes):
    return LinksConfig(corpora=[LaionLinks(path=path, source="six", licence="CC-BY-4.0")], rules=RULES, **changes)


def test_every_row_is_kept_or_refused_with_its_reason(context, table):
    version = context.store.open(links(config_of(table), context))
    assert version.table().schema.equals(SCHEMA)
    first, last = version.table().to_pylist()
    assert first == {
        "id": f"{content_id('corpus', 'six')[:14]}000000000000000000", "caption": "A café & more",
        "caption_id": content_id("caption", "A café & more"), "url": "http://Pictures.example/a.jpg",
        "host": "pictures.example", "width": 512, "height": None, "similarity": None, "aesthetic": 7.0, "punsafe": None,
        "pwatermark": None, "language": None, "nsfw": None, "uid": None, "sha256": None, "source": "six",
        "licence": "CC-BY-4.0",
    }  # fmt: skip
    assert (last["caption"], last["id"][-3:]) == ("the last", "00c")
    assert version.reject_reasons == {
        "caption_empty": 1, "caption_too_long": 1, "low_aesthetic": 2, "too_narrow": 2, "url_credentials": 1,
        "url_malformed": 2, "url_private": 1, "url_scheme": 1,
    }  # fmt: skip
    rejects = {json.loads(row["row"])["caption"]: row for row in version.rejects().to_pylist()}
    assert rejects["a low one"]["detail"] == "aesthetic 6.4 < 6.5"
    assert rejects["of unknown worth"]["detail"] == "aesthetic is missing"
    assert json.loads(rejects["a small one"]["row"])["width"] == 100
    assert "secret" not in rejects["with a password"]["detail"]


def test_words_must_be_among_those_that_pass(context, tmp_path):
    told = [("en", "UNLIKELY"), ("EN", "unlikely"), ("de", "UNLIKELY"), ("en", "NSFW"), (None, "UNLIKELY"), ("", None)]
    columns = {
        "URL": [f"http://a.example/{place}.jpg" for place in range(len(told))], "TEXT": ["a caption"] * len(told),
        "LANGUAGE": [one for one, _ in told], "NSFW": [two for _, two in told],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "words.parquet")
    corpora = [LaionLinks(path=str(tmp_path / "words.parquet"))]
    config = LinksConfig(corpora=corpora, among={"language": ("en", "nolang"), "nsfw": ("UNLIKELY",)})
    version = context.store.open(links(config, context))
    assert version.table()["language"].to_pylist() == ["en", "EN"]
    assert version.reject_reasons == {"other_language": 3, "other_nsfw": 1}
    assert "language 'de' is not en or nolang" in version.rejects()["detail"].to_pylist()
    assert [(one.step, one.after) for one in yields(version)] == [("other_language", 3), ("other_nsfw", 2)]


def test_a_licence_that_a_row_does_not_name_is_that_of_the_table(context, table):
    config = config_of(table).model_copy(update={"rules": (), "among": {"licence": ("cc-by-4.0",)}})
    assert "other_licence" not in context.store.open(links(config, context)).reject_reasons


def test_the_yield_of_each_step_is_read_from_the_reasons_in_order(context, table):
    steps = yields(context.store.open(links(config_of(table), context)))
    assert [(one.step, one.before, one.after) for one in steps] == [
        ("url_scheme", 13, 12), ("url_malformed", 12, 10), ("url_credentials", 10, 9), ("url_private", 9, 8),
        ("caption_empty", 8, 7), ("caption_too_long", 7, 6), ("low_aesthetic", 6, 4), ("too_narrow", 4, 2),
    ]  # fmt: skip


def test_small_shards_and_another_place_give_the_same_rows(context, table, tmp_path):
    whole = links(config_of(table), context)
    cut = links(config_of(table, shard_rows=3), context)
    assert cut.fingerprint == whole.fingerprint
    assert context.store.open(cut).n_shards == 5
    moved = tmp_path / "elsewhere.parquet"
    moved.write_bytes((tmp_path / "a.parquet").read_bytes())
    assert links(config_of(str(moved)), context) == whole
    assert verify(context.store) == []


def test_files_that_are_added_leave_the_shards_before_alone(context, table, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    first = context.store.open(links(config_of(str(folder)), context))
    (folder / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    second = context.store.open(links(config_of(str(folder)), context))
    assert second.rows == 2 * first.rows
    assert second.manifest.shards[0].fingerprint == first.manifest.shards[0].fingerprint
    assert len(set(second.table()["id"].to_pylist())) == second.rows


def test_problems_name_rules_without_a_column(table):
    other = config_of(table).model_copy(
        update={"rules": (Rule(column="punsafe", most=0.5), Rule(column="beauty", most=1))}
    )
    said = {problem.where: str(problem) for problem in problems_of(other)}
    assert "has no punsafe that can be read, so the rule would refuse all its links" in said["rules.0.column"]
    assert "links have no numbers called 'beauty'" in said["rules.1.column"]
    assert list(problems_of(config_of(table))) == []


def test_words_that_a_table_lacks_are_a_problem(table):
    config = config_of(table).model_copy(update={"among": {"language": ("en",), "licence": ("x",)}})
    (one,) = problems_of(config, "links")
    assert (one.where, one.place) == ("links.among.language", "here")


@pytest.mark.parametrize("there", [True, False])
def test_a_rehearsal_has_links_that_keep_the_rules_and_a_server_behind_them(context, table, tmp_path, there):
    config = config_of(table if there else str(tmp_path / "none.parquet"))
    small = config.rehearse(tmp_path / "rehearsal")
    assert config.rehearse(tmp_path / "rehearsal") == small
    if there:
        assert pq.read_schema(small.corpora[0].path).names == ["URL", "TEXT", "WIDTH", "AESTHETIC_SCORE"]
    made = links(small, context)
    reasons = context.store.open(made).reject_reasons
    assert reasons == {"low_aesthetic": 4, "url_private": 1, "url_scheme": 1}
    fetched = fetch(made, FetchConfig(snapshot="2026-11-28", min_side_px=256).rehearse(tmp_path), context)
    assert context.store.open(fetched).reject_reasons == {"http_404": 1, "image_truncated": 1, "not_an_image": 1}
    assert loopback.shared().hits["/robots.txt"] >= 1


def test_the_real_sample_passes(context):
    if not SAMPLE.exists():
        pytest.skip("laion400m_sample_10k.parquet is not beside the checkout, in ../shared/data")
    version = context.store.open(links(LinksConfig(corpora=[LaionLinks(path=str(SAMPLE))]), context))
    assert version.rows > 9_000
    assert version.rows + sum(version.reject_reasons.values()) == 10_000
    assert sum(count for reason, count in version.reject_reasons.items() if reason.startswith("url")) < 100


def test_folders_of_a_table_say_what_passes(context, tmp_path):
    """Partitions as Spark and pyarrow write them: their keys are no columns of the files."""
    for language in ("en", "de", "__HIVE_DEFAULT_PARTITION__"):
        (tmp_path / "parts" / f"language={language}").mkdir(parents=True)
        columns = {"URL": [f"http://a.example/{language}.jpg"], "TEXT": ["a caption"]}
        pq.write_table(pa.table(columns), tmp_path / "parts" / f"language={language}" / "0.parquet")
    config = LinksConfig(corpora=[LaionLinks(path=str(tmp_path / "parts"))], among={"language": ("en",)})
    assert list(problems_of(config, "links")) == []
    version = context.store.open(links(config, context))
    assert version.table().column("language").to_pylist() == ["en"]
    assert version.reject_reasons == {"other_language": 2}
    small = links(config.rehearse(tmp_path / "rehearsal"), context)
    assert set(context.store.open(small).table().column("language").to_pylist()) == {"en"}


def test_a_score_beyond_its_type_is_missing_not_infinite(context, tmp_path):
    columns = {"URL": ["http://a.example/1.jpg"] * 4, "TEXT": ["a caption"] * 4, "aesthetic": [1e39, -1e39, 7.0, -7.0]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    version = context.store.open(links(LinksConfig(corpora=[LaionLinks(path=str(tmp_path / "a.parquet"))]), context))
    assert version.table().column("aesthetic").to_pylist() == [None, None, 7.0, -7.0]
