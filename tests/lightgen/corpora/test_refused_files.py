"""Files that are no corpus, or of which a part cannot be read: each is refused by name, with what to do."""

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lightgen.errors import InputCorrupt
from tests.lightgen.corpora.reading import corpus, read

CASES = Path(__file__).parents[2] / "cases" / "captions"
TEXT = "a red bird on a wall"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "punycode"])
def test_an_encoding_that_a_file_is_not_in_is_an_error_with_its_path(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\u00fcn caf\u00e9\n".encode("utf-16-le"))
    with pytest.raises(InputCorrupt, match=r"a\.txt is not .*Set another `encoding`"):
        read("text", path, encoding=encoding)
    for none in ("idna", "undefined"):
        with pytest.raises(ValidationError, match=f"there is no encoding '{none}'"):
            corpus("text", path, encoding=none)


@pytest.mark.parametrize(
    ("begins", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><title>404</title>\n", "a web page"),
        (b"PAR1\x15\x04\n", "Parquet, not text"),
        (b"%PDF-1.4\n", "a PDF"),
        (b"\xff\xd8\xff\xe0\n", "a picture"),
        (b"\x04\x22\x4d\x18\n", "packed by lz4"),
        (b"\x5d\x00\x00\x80\x00\n", "packed by lzma"),
        (gzip.compress(gzip.compress(b"a dog", mtime=0), mtime=0), "packed twice: gzip lies within"),
        (b"a dog\ra cat\ra cow\r", "carriage return alone"),
        (b"id,caption\r1,a dog\r", "carriage return alone"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "table", "jsonl"])
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, kind: str, begins: bytes, told: str) -> None:
    (tmp_path / "a").write_bytes(begins)
    with pytest.raises(InputCorrupt, match=told):
        read(kind, tmp_path / "a")


@pytest.mark.parametrize(
    "lines", ['{"caption": "a dog"},\n{"caption": "a cat"},\n', '{"id": 1,\n"caption": "a dog"}\n']
)
def test_lines_none_of_which_is_json_are_refused_by_name(tmp_path: Path, lines: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(InputCorrupt, match="holds no JSON lines: none of its first 2 lines"):
        read("jsonl", tmp_path / "a.jsonl")


def test_a_compressed_file_that_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightgen.corpora.plain_bytes.ALWAYS_ALLOWED", 1 << 20)
    path = tmp_path / "a.txt"
    path.write_bytes(gzip.compress(b"a caption of zeros\n" * 200_000))
    with pytest.raises(InputCorrupt, match=r"unpacks to more than .* bytes"):
        read("text", path)


def test_a_zip_is_named(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "a"), "zip", CASES, "null.jsonl")
    with pytest.raises(InputCorrupt, match=r"is a zip archive\. Unpack it"):
        read("jsonl", tmp_path / "a.zip")


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{TEXT}\n")
    (tmp_path / "b.txt").symlink_to(tmp_path / "gone.txt")
    for path in (tmp_path, tmp_path / "*.txt"):
        with pytest.raises(InputCorrupt, match=r"b\.txt.*No such file"):
            read("text", path)


def test_what_is_no_file_or_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    for path in (tmp_path / "a.txt", tmp_path, "/dev/null"):
        with pytest.raises(InputCorrupt, match="is no regular file"):
            read("text", path)
    for path in (
        "https://example.com/a.txt",
        "hf://datasets/x/a.txt",
        "gs://bucket/a.txt",
        "s3:/bucket/a.txt",
        "S3://b/a",
    ):
        with pytest.raises(InputCorrupt, match="neither a local path nor s3://"):
            read("text", path)


def test_a_path_without_a_bucket_is_refused_by_name() -> None:
    for path in ("s3://", "s3:///"):
        with pytest.raises(InputCorrupt, match="names no bucket"):
            read("text", path)


def test_a_table_with_two_columns_of_the_wanted_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,url,caption\na red cat,u,a blue dog\n")
    with pytest.raises(InputCorrupt, match=r"a\.csv has 2 columns 'caption'. Rename all but one"):
        read("table", tmp_path / "a.csv")
    assert read("table", tmp_path / "a.csv", column="url") == ["u"]


def cut_within_a_header(data: bytes) -> bytes:
    return data[:1200]


def cut_between_members(data: bytes) -> bytes:
    return data[:1024]


def damaged_header(data: bytes) -> bytes:
    return data[:1024] + b"?" * 8 + data[1032:]


def twice(data: bytes) -> bytes:
    return data * 2


@pytest.mark.parametrize("harm", [cut_within_a_header, cut_between_members, damaged_header, twice])
def test_a_tar_of_which_a_part_cannot_be_read_is_refused(harm: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, text in (("0.txt", TEXT), ("1.txt", "two blue cups"), ("2.txt", "a door")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    assert read("webdataset", path) == [TEXT, "two blue cups", "a door"]
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(InputCorrupt, match="Fetch it again"):
        list(corpus("webdataset", path).read())
    with pytest.raises(InputCorrupt, match="Fetch it again"):
        corpus("webdataset", path).cut(2)


def test_names_in_a_message_are_few_and_short(tmp_path: Path) -> None:
    names = ["n" * 5000, *(f"column {number}" for number in range(20_000))]
    (tmp_path / "a.csv").write_text(",".join(names) + "\n" + "," * 20_000 + "\n")
    (tmp_path / "a.jsonl").write_text(json.dumps(dict.fromkeys(names, 1)) + "\n")
    (tmp_path / "a.json").write_text(json.dumps([dict.fromkeys(names, 1)]))
    pq.write_table(pa.table({name: [1] for name in names[:900]}), tmp_path / "a.parquet")
    for kind, file in (("table", "a.csv"), ("jsonl", "a.jsonl"), ("json", "a.json"), ("parquet", "a.parquet")):
        with pytest.raises(InputCorrupt, match=r"column 28, and [\d,]+ more: set `") as told:
            read(kind, tmp_path / file)
        assert len(str(told.value)) < 1000


def test_too_many_columns_are_refused_with_what_to_do(tmp_path: Path) -> None:
    pq.write_table(pa.table({f"{number}": [1] for number in range(1001)}), tmp_path / "a.parquet")
    with pytest.raises(InputCorrupt, match=r"1,001 columns; at most 10,000 and 1,000 are read\. Write it again"):
        read("parquet", tmp_path / "a.parquet")


@pytest.mark.parametrize(("kind", "line"), [("text", "%s\n"), ("jsonl", '{"caption": "%s"}\n'), ("table", '"%s"\n')])
def test_a_record_without_end_is_named(tmp_path: Path, kind: str, line: str) -> None:
    texts = ["caption", TEXT, TEXT, "word " * (17 << 20 >> 2), TEXT]
    (tmp_path / "a.csv").write_text("".join(line % text for text in texts))
    row = 3 if kind == "table" else 4
    with pytest.raises(InputCorrupt, match=rf"a\.csv: record {row} has more than 16 MiB\. Leave it out"):
        read(kind, tmp_path / "a.csv")


def test_feather_is_refused_by_name(tmp_path: Path) -> None:
    """It was called a damaged Parquet file, whose columns cannot be found."""
    table = pa.table({"caption": [TEXT]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InputCorrupt, match=r"a\.arrow is Arrow as a file \(Feather\), .*Write it as Parquet"):
        read("datasets", tmp_path)
