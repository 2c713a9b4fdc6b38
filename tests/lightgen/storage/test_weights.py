import hashlib
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lightgen.errors import ModelError
from lightgen.storage.weights import tensor_rows


def test_rows_name_the_tensors_and_not_the_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    tensors = {"b": torch.arange(6).reshape(2, 3).bfloat16(), "a": torch.tensor(2.5), "empty": torch.zeros(0, 4)}
    save_file(tensors, one / "model.safetensors")
    save_file({"b": tensors["b"]}, two / "model-00001-of-00002.safetensors", metadata={"made": "later"})
    save_file({"a": tensors["a"], "empty": tensors["empty"]}, two / "model-00002-of-00002.safetensors")
    save_file({"b": torch.zeros(3)}, two / "model.fp16.safetensors")
    rows = tensor_rows(one)
    assert rows == tensor_rows(two)
    assert [(row["name"], row["dtype"], row["shape"]) for row in rows] == [
        ("a", "float32", ""),
        ("b", "bfloat16", "2,3"),
        ("empty", "float32", "0,4"),
    ]
    assert rows[0]["sha256"] == hashlib.sha256(struct.pack("<f", 2.5)).hexdigest()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 61) + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,999999]}}  ' + b"\0" * 8,
        struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_of' + b"\0" * 8,
        struct.pack("<Q", 57) + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   ' + b"\0" * 99,
    ],
    ids=["empty", "header", "offsets", "cut", "trailing"],
)
def test_hostile_safetensors_are_an_error_with_the_file(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(ModelError, match=r"model\.safetensors: broken weights"):
        tensor_rows(tmp_path)
