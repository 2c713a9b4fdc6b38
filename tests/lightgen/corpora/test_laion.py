"""Tables of links in all their published schemas: one name for each column, and no number through too narrow a type."""

from datetime import date, datetime

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from lightgen.corpora.inventory import take_inventory
from lightgen.corpora.laion import LaionLinks
from lightgen.errors import InputChanged, InputCorrupt
from schemas.links import NUMBERS

NAN = float("nan")
HASH = -7_000_000_000_000_000_001  # float64 has not the digits for it
# Columns of one row as each release names and types them, and what is read of them.
RELEASES = {
    "improved_aesthetics_6.5plus": (
        {"URL": "u", "TEXT": "t", "WIDTH": pa.scalar(512, pa.int32()), "HEIGHT": pa.scalar(384, pa.int32()),
         "similarity": 0.3125, "punsafe": pa.scalar(0.25, pa.float32()), "pwatermark": pa.scalar(0.5, pa.float32()),
         "AESTHETIC_SCORE": pa.scalar(6.5, pa.float32()), "hash": HASH, "__index_level_0__": 4},
        {"width": 512, "height": 384, "similarity": 0.3125, "punsafe": 0.25, "pwatermark": 0.5, "aesthetic": 6.5,
         "uid": str(HASH)},
    ),
    "laion2B-en-aesthetic": (
        {"URL": "u", "TEXT": "t", "WIDTH": 512.0, "HEIGHT": NAN, "similarity": 0.25, "hash": HASH, "punsafe": NAN,
         "pwatermark": None, "aesthetic": pa.scalar(5.25, pa.float32())},
        {"width": 512, "similarity": 0.25, "aesthetic": 5.25, "uid": str(HASH)},
    ),
    "laion-art": (
        {"URL": "u", "TEXT": "t", "WIDTH": 8, "HEIGHT": 9, "similarity": 0.5, "LANGUAGE": "nolang", "hash": 7,
         "pwatermark": 0.125, "punsafe": 0.0, "aesthetic": 8.0},
        {"width": 8, "height": 9, "similarity": 0.5, "language": "nolang", "uid": "7", "pwatermark": 0.125,
         "punsafe": 0.0, "aesthetic": 8.0},
    ),
    "LAION-400M": (
        {"SAMPLE_ID": 1 << 62, "URL": "u", "TEXT": "t", "HEIGHT": 3, "WIDTH": 4, "LICENSE": "?", "NSFW": "UNLIKELY",
         "similarity": 0.375},
        {"uid": str(1 << 62), "height": 3, "width": 4, "licence": "?", "nsfw": "UNLIKELY", "similarity": 0.375},
    ),
    "a hash that went through float64": ({"URL": "u", "TEXT": "t", "hash": float(HASH)}, {}),
    "laion-coco": (
        {"URL": "u", "TEXT": "alt", "top_caption": "t", "all_captions": ["t", "x"], "all_similarities": [0.5, 0.25],
         "WIDTH": 1, "HEIGHT": 2, "similarity": 0.5, "hash": 1, "aesthetic": 5.0},
        {"width": 1, "height": 2, "similarity": 0.5, "uid": "1", "aesthetic": 5.0},
    ),
    "relaion": ({"url": "u", "caption": "t"}, {}),
    "DataComp": (
        {"uid": "0" * 31 + "a", "url": "u", "text": "t", "original_width": 5, "original_height": 6,
         "clip_b32_similarity_score": 0.25, "clip_l14_similarity_score": 0.5, "face_bboxes": [[0.1, 0.2, 0.3, 0.4]],
         "sha256": "ab" * 32},
        {"uid": "0" * 31 + "a", "width": 5, "height": 6, "similarity": 0.5, "sha256": "ab" * 32},
    ),
    "img2dataset": (
        {"caption": "t", "url": "u", "key": "000000001", "status": "success", "error_message": None, "width": 256,
         "height": 256, "original_width": 900, "original_height": 700, "exif": "{}", "sha256": "cd" * 32},
        {"width": 900, "height": 700, "sha256": "cd" * 32},
    ),
    "captions in a list": ({"URL": "u", "TEXT": ["t", "other"]}, {}),
    "dictionaries and large strings": (
        {"URL": pa.scalar("u", pa.large_string()), "TEXT": pa.scalar("t", pa.dictionary(pa.int8(), pa.string()))}, {},
    ),
}  # fmt: skip


def written(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return LaionLinks(path=str(path))


def table_of(row):
    return {
        name: pa.array([value.as_py() if isinstance(value, pa.Scalar) else value],
                       value.type if isinstance(value, pa.Scalar) else None)
        for name, value in row.items()
    }  # fmt: skip


def read(corpus, scratch, rows=100):
    """All rows of all files, range by range."""
    found = []
    for file in corpus.files():
        inventory = take_inventory(file, rows)
        for place in inventory.places():
            found += file.read_range(inventory, place, scratch).to_pylist()
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_is_read(tmp_path, release):
    row, expected = RELEASES[release]
    [found] = read(written(tmp_path / "a.parquet", table_of(row)), tmp_path)
    said = {name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}
    assert said == {**dict.fromkeys(said), "url": "u", "caption": "t", **expected}


def test_a_column_of_captions_can_be_named(tmp_path):
    corpus = written(tmp_path / "a.parquet", {"URL": ["u"], "TEXT": ["t"], "Other": ["o"]})
    assert read(corpus.model_copy(update={"caption_column": "other"}), tmp_path)[0]["caption"] == b"o"


def test_what_is_missing_is_named(tmp_path):
    for columns, said in (({"TEXT": ["t"]}, "column for the url"), ({"URL": ["u"]}, "set `caption_column`")):
        corpus = written(tmp_path / "a.parquet", columns)
        with pytest.raises(InputCorrupt, match=said):
            corpus.cut(10)
        assert [said in problem.what for problem in corpus.problems()] == [True]
    [problem] = LaionLinks(path=str(tmp_path / "none.parquet")).problems()
    assert "cannot read" in problem.what
    [problem] = LaionLinks(path=str(tmp_path / "*.none")).problems()
    assert "holds no Parquet files" in problem.what
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no PAR1")
    [problem] = LaionLinks(path=str(tmp_path / "b.parquet")).problems()
    assert "not a sound Parquet file" in problem.what


def numbered(path, rows, first=0, **options):
    urls = [f"http://e.x/{n}" for n in range(first, first + rows)]
    return written(path, {"URL": urls, "TEXT": ["t"] * rows}, **options)


def test_a_folder_a_pattern_and_one_file_are_the_same_rows(tmp_path):
    (tmp_path / "part_1").mkdir()
    for path, first in (("part_1/b.parquet", 5), ("a.parquet", 0), ("c.parquet", 8)):
        numbered(tmp_path / path, 5 if first != 5 else 3, first)
    (tmp_path / "a_stats.json").write_text("{}")
    whole = read(LaionLinks(path=str(tmp_path)), tmp_path)
    assert [row["url"] for row in whole] == [
        f"http://e.x/{n}".encode() for n in (*range(5), *range(8, 13), *range(5, 8))
    ]
    assert read(LaionLinks(path=str(tmp_path / "**/*.parquet")), tmp_path) == whole
    some = read(LaionLinks(path=str(tmp_path), limit=7), tmp_path, rows=3)
    assert some == whole[:7]


@pytest.mark.parametrize("group", [1000, 7])
def test_ranges_of_large_and_small_row_groups_are_the_rows_in_order(tmp_path, group):
    corpus = numbered(tmp_path / "a.parquet", 100, row_group_size=group)
    rows = read(corpus, tmp_path, rows=9)
    assert [row["url"] for row in rows] == [f"http://e.x/{n}".encode() for n in range(100)]


def test_a_file_that_changes_after_it_was_counted_is_not_read(tmp_path):
    corpus = numbered(tmp_path / "a.parquet", 10)
    inventory = corpus.cut(5)
    numbered(tmp_path / "a.parquet", 10, first=1)
    with pytest.raises(InputChanged, match="rows 1 to 5"):
        corpus.read_range(inventory, next(iter(inventory.places())), tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(InputChanged):
        corpus.read_range(inventory, next(iter(inventory.places())), tmp_path)


def test_a_range_is_known_by_every_value_of_it(tmp_path):
    row = table_of(RELEASES["laion-art"][0])
    digests = set()
    for name in [None, *row]:
        changed = dict(row) if name is None else {**row, name: pa.array([None], row[name].type)}
        digests.add(written(tmp_path / "a.parquet", changed).cut(5).ranges[0].sha256)
    assert len(digests) == 1 + len(row)
    assert {"aesthetic", "width"} <= set(NUMBERS)


def test_numbers_that_are_written_out_are_numbers(tmp_path):
    """Tables that went through CSV hold texts, others decimals: each such row would break every rule."""
    url, text = [f"http://a.example/{row}.jpg" for row in range(8)], ["a cat"] * 8
    width = ["512", " 512.0 ", "5.12e2", "nan", "512px", "", None, "0x10"]
    exact = pa.array([1] * 8, pa.decimal128(9, 2))
    table = pa.table({"URL": url, "TEXT": text, "WIDTH": width, "HEIGHT": pa.array(width).dictionary_encode()})
    pq.write_table(table.append_column("similarity", exact), tmp_path / "a.parquet")
    corpus = LaionLinks(path=str(tmp_path / "a.parquet"))
    inventory = take_inventory(corpus, 100)
    rows = corpus.read_range(inventory, next(iter(inventory.places())), tmp_path)
    assert rows["width"].to_pylist() == rows["height"].to_pylist() == [512.0] * 3 + [None] * 5
    assert rows["similarity"].to_pylist() == [1.0] * 8


def test_folders_named_by_a_value_are_columns(tmp_path):
    """As pyarrow writes them: decoded, null where Hive has none, and after the columns of the file."""
    columns = {
        "URL": [f"u{n}" for n in range(40)], "TEXT": ["t"] * 40, "LANGUAGE": ["en", "zh hant/%", None, "de"] * 10,
        "aesthetic": [6.5, -1.0, 2e-05, None] * 10,
    }  # fmt: skip
    keys = ["LANGUAGE", "aesthetic"]
    ds.write_dataset(pa.table(columns), tmp_path, format="parquet", partitioning=keys, partitioning_flavor="hive")
    corpus = LaionLinks(path=str(tmp_path))
    assert {name for file in corpus.files() for name in file.known()} == {"url", "caption", "language", "aesthetic"}
    rows = sorted(read(corpus, tmp_path, rows=4), key=lambda row: int(row["url"][1:]))
    assert [(row["language"], row["aesthetic"]) for row in rows] == [
        (b"en", 6.5), (b"zh hant/%", -1.0), (None, 2e-05), (b"de", None)
    ] * 10  # fmt: skip


def test_equal_files_of_two_partitions_are_told_apart(tmp_path):
    """Though their inventories and what is decoded of them are remembered by the digest of the file."""
    for name in ("language=en", "language=de", "plain", "width=7"):
        (tmp_path / name).mkdir()
        numbered(tmp_path / name / "a.parquet", 40)
    rows = read(LaionLinks(path=str(tmp_path)), tmp_path, rows=4)
    assert [(row["language"], row["width"]) for row in rows[::40]] == [
        (b"de", None), (b"en", None), (None, None), (None, 7)
    ]  # fmt: skip


def test_a_column_of_the_file_comes_before_its_folder(tmp_path):
    (tmp_path / "language=en").mkdir()
    columns = {"url": ["u", "v"], "caption": ["t", "t"], "Language": ["de", None]}
    corpus = written(tmp_path / "language=en" / "a.parquet", columns)
    assert [row["language"] for row in read(corpus, tmp_path)] == [b"de", None]


ODD_TYPES = {
    "struct": [{"a": "u"}], "list of structs": [[{"a": "u"}]], "truth": [True], "date": [date(2020, 1, 1)],
    "time": [datetime(2020, 1, 1)], "float": [1.5],
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_TYPES)
def test_columns_of_types_that_say_nothing_are_named_or_as_if_not_there(tmp_path, kind):
    odd = ODD_TYPES[kind]
    for name, setting in (("url", "is it a table of links"), ("caption", "set `caption_column`")):
        corpus = written(tmp_path / "a.parquet", {"url": ["u"], "caption": ["t"], name: odd})
        with pytest.raises(InputCorrupt, match=rf"no column for the {name}; column '{name}' is .*: {setting}"):
            corpus.cut(1)
    others = dict.fromkeys(("nsfw", "uid", *(("aesthetic", "width") if kind != "float" else ())), odd)
    corpus = written(tmp_path / "a.parquet", {"url": ["u"], "caption": ["t"], **others, "WIDTH": odd, "sample_id": [7]})
    assert set(corpus.columns()) == {"url", "caption", "uid", *(["width"] if kind == "float" else ())}
    assert read(corpus, tmp_path)[0]["uid"] == b"7"


@pytest.mark.parametrize("text", [pa.binary_view(), pa.string_view(), pa.null()])
def test_views_and_columns_of_nothing_are_read(tmp_path, text):
    rows = [None] if pa.types.is_null(text) else ["7"]
    columns = {name: pa.array(rows, text) for name in ("caption", "uid", "aesthetic")}
    [row] = read(written(tmp_path / "a.parquet", {"url": ["u"], **columns}), tmp_path)
    assert (row["caption"], row["uid"]) == ((None, None) if rows == [None] else (b"7", b"7"))
    assert row["aesthetic"] == (None if rows == [None] else 7)
