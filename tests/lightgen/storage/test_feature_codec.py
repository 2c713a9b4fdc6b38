import numpy as np
import pyarrow as pa
import pytest
import torch

from lightgen.errors import SchemaMismatch
from lightgen.storage.feature_codec import latent_array, latents_from_table, text_array, text_from_table
from schemas import features
from schemas import texts as texts_schema

SHAPE = (3, 2, 5)


def _tables(rows: int, dtype: str = "bfloat16") -> tuple[pa.Table, pa.Table, torch.Tensor, list[torch.Tensor]]:
    """Features, their texts, and what they hold."""
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(rows, *SHAPE, generator=generator)
    texts = [torch.randn(int(i % 4), 6, generator=generator) for i in range(rows)]
    ids = [f"{i:032x}" for i in range(rows)]
    columns = [*[pa.array(ids)] * 3, latent_array(latents), latent_array(latents.abs())]
    words = [*[pa.array(ids)] * 2, text_array(texts, dtype), pa.array([len(text) for text in texts], pa.int32())]
    stored = pa.Table.from_arrays(columns, schema=features.schema(SHAPE))
    return stored, pa.Table.from_arrays(words, schema=texts_schema.schema(6, dtype)), latents, texts


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_round_trip_row_by_row(dtype: str) -> None:
    table, words, latents, texts = _tables(9, dtype)
    mean, std = latents_from_table(table)
    assert torch.equal(mean, latents.half())
    assert torch.equal(std, latents.abs().half())
    flat, tokens = text_from_table(words)
    assert tokens.tolist() == [len(text) for text in texts]
    assert torch.equal(flat, torch.cat(texts).to(getattr(torch, dtype)))


def test_slices_and_chunks_read_the_same_rows() -> None:
    *tables, latents, texts = _tables(9)
    rows, words = (pa.concat_tables([table.slice(7, 2), table.slice(1, 3)]) for table in tables)
    assert torch.equal(latents_from_table(rows)[0], latents[[7, 8, 1, 2, 3]].half())
    flat, tokens = text_from_table(words)
    assert tokens.tolist() == [3, 0, 1, 2, 3]
    assert torch.equal(flat, torch.cat([texts[i] for i in (7, 8, 1, 2, 3)]).bfloat16())


def test_the_latent_is_plain_little_endian_float16() -> None:
    table, _, latents, _ = _tables(2)
    cell = table.column("latent_mean")[1].as_py()
    assert np.array_equal(np.frombuffer(cell, "<f2").reshape(SHAPE), latents[1].half().numpy())


def test_no_rows() -> None:
    table, words, *_ = _tables(2)
    mean, _ = latents_from_table(table.slice(0, 0))
    flat, tokens = text_from_table(words.slice(0, 0))
    assert (tuple(mean.shape), tuple(flat.shape), len(tokens)) == ((0, *SHAPE), (0, 6), 0)


def test_a_text_that_lost_bytes_is_refused() -> None:
    _, table, *_ = _tables(5)
    wrong = table.set_column(3, table.schema.field("text_tokens"), pa.array([9, 9, 9, 9, 9], pa.int32()))
    with pytest.raises(SchemaMismatch, match="text_tokens says"):
        text_from_table(wrong)
