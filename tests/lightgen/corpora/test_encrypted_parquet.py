"""Parquet that is encrypted is refused by name: to look at a column without its key would end the process."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from lightgen.corpora.laion import LaionLinks
from lightgen.corpora.picture_tables import PictureTables
from lightgen.errors import InputCorrupt
from tests.lightgen.corpora.reading import corpus

TURNS = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "a red bird"}]
TABLE = pa.table({"caption": ["a red bird"], "url": ["http://a.example/1.jpg"], "image": [b"1"], "turns": [TURNS]})


class OpenKeys(pe.KmsClient):
    """Keys that lie open."""

    def __init__(self, config: pe.KmsConnectionConfig) -> None:
        super().__init__()

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        """The key itself."""
        return key_bytes

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        """The key itself."""
        return wrapped_key


@pytest.mark.parametrize("plain_footer", [False, True])
def test_it_is_refused_by_name(tmp_path: Path, plain_footer: bool) -> None:
    settings = pe.EncryptionConfiguration(
        footer_key="one", column_keys={"two": ["caption"]}, plaintext_footer=plain_footer, internal_key_material=True
    )
    keys = pe.CryptoFactory(OpenKeys).file_encryption_properties(pe.KmsConnectionConfig(), settings)
    path = tmp_path / "a.parquet"
    with pq.ParquetWriter(path, TABLE.schema, encryption_properties=keys) as writer:
        writer.write_table(TABLE)
    captions = [corpus("parquet", path), *corpus("conversations", path, field="turns").files()]
    for one in (*captions, LaionLinks(path=str(path)), PictureTables(path=str(path), source="test")):
        with pytest.raises(InputCorrupt, match=r"a\.parquet is encrypted, .*Write it again without encryption"):
            one.cut(1)
        assert ["is encrypted" in problem.what for problem in one.problems()] == [True]
