"""Other people's readers open the shards as they are."""

import tarfile

import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from lightgen.storage.parquet import schema_digest
from lightgen.storage.store import open_or_create
from tests.worked_version import SCHEMA, build, plan_of, with_all


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    store = open_or_create(str(tmp_path_factory.mktemp("store") / "store"))
    return store.open(build(store, plan_of(kind="images"), with_all, max_reject_fraction=1))


def ids(version):
    return version.table().column("id").to_pylist()


def test_pyarrow(version):
    table = pyarrow.dataset.dataset(version.paths(), format="parquet").to_table()
    assert table.column("id").to_pylist() == ids(version)
    metadata = pq.read_schema(version.paths()[0]).metadata
    assert metadata[b"lightgen.schema_sha256"].decode() == schema_digest(SCHEMA)


def test_duckdb(version):
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.execute("select id, n from read_parquet(?) order by id", [version.paths()]).fetchall()
    assert found == sorted((id, index % 4) for index, id in enumerate(ids(version)))


def test_hf_datasets(version, tmp_path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_dataset("parquet", data_files=version.paths(), cache_dir=str(tmp_path), split="train")
    assert list(found["id"]) == ids(version)


def test_webdataset(version):
    import webdataset

    samples = list(webdataset.WebDataset(version.paths("tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ids(version)
    assert samples[5]["png"] == b"png 1 1" * 50
    assert samples[5]["mask.png"] == b""


def test_tarfile(version):
    with tarfile.open(version.paths("tar")[0]) as tar:
        assert tar.getnames()[:3] == ["row-0-0.json", "row-0-0.mask.png", "row-0-0.png"]
        assert tar.extractfile("row-0-1.png").read() == b"png 0 1" * 50


def test_equal_input_gives_equal_bytes(version, tmp_path):
    store = open_or_create(str(tmp_path))
    again = store.open(build(store, plan_of(kind="images"), with_all, max_reject_fraction=1))
    digests = [[entry.sha256 for r in v.manifest.shards for entry in r.files] for v in (version, again)]
    assert digests[0] == digests[1]
