"""Parts of a folder that hold no caption: they cost their own rows alone."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.errors import InputCorrupt
from tests.lightgen.corpora.reading import corpus, read

TEXTS = ["a red bird", "two   cats", "ein Käfer"]


def test_a_part_without_any_caption_costs_its_rows_alone(tmp_path: Path) -> None:
    """pandas types a column without a text as null, and Spark writes a part of a CSV without rows as no byte."""
    for name, values in (("a", pa.array(TEXTS)), ("b", pa.nulls(2)), ("c", pa.array(TEXTS).cast(pa.binary_view()))):
        pq.write_table(pa.table({"caption": values}), tmp_path / f"{name}.parquet")
    assert read("parquet", tmp_path) == [*TEXTS, None, None, *TEXTS]
    pq.write_table(pa.table({"caption": pa.array([[], [None]])}), tmp_path / "b.parquet")
    assert read("parquet", tmp_path) == [*TEXTS, None, None, *TEXTS]
    (tmp_path / "a.csv").write_text("caption\n" + "\n".join(TEXTS))
    for number, none in enumerate((b"", b"\xef\xbb\xbf", b"\r\n\n", b"caption\n")):
        (tmp_path / f"b{number}.csv").write_bytes(none)
    assert read("table", tmp_path) == TEXTS
    [problem] = corpus("table", tmp_path / "b0.csv").problems()
    assert "holds no captions" in problem.what
    (tmp_path / "c.csv").write_bytes(b"\n" * (1 << 20) + b"caption\na dog\n")
    with pytest.raises(InputCorrupt, match=r"c\.csv begins with 1,048,576 bytes of nothing"):
        read("table", tmp_path)
