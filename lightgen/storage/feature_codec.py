"""Bytes of a row of features or texts: encoders write them, training reads a whole Arrow column as one tensor.

Latents are float16, row-major; text is float16 or bfloat16; both may be in 8 bits (`lightgen.storage.quantised`).
Little-endian, as every machine we run on.
"""

import string
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Float16
from torch import Tensor

from lightgen.errors import SchemaMismatch
from lightgen.storage.quantised import bits_of, quantised_std, quantised_text, read_std, read_text, text_bytes

TORCH_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def latent_array(latents: Float[Tensor, "n ... c h w"]) -> pa.FixedSizeBinaryArray:
    """Latents as a column of float16 bytes."""
    host = latents.detach().to("cpu", torch.float16).contiguous()
    width = 2 * host[0].numel() if len(host) else 2 * int(np.prod(host.shape[1:]))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(host), [None, pa.py_buffer(host.numpy().data)])


def std_array(std: Float[Tensor, "n ... c h w"]) -> pa.FixedSizeBinaryArray:
    """Standard deviations as a column in 8 bits."""
    raw = quantised_std(std)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(raw.shape[1]), len(raw), [None, pa.py_buffer(raw.data)])


def text_array(texts: Sequence[Float[Tensor, "l t"]], dtype: str, codec: str = "plain") -> pa.LargeBinaryArray:
    """Texts of different lengths as a column of raw bytes, in `dtype` or quantised."""
    stored = [text.detach().to("cpu", TORCH_DTYPES[dtype]).contiguous() for text in texts]
    if codec == "int8":
        return pa.array([quantised_text(text).tobytes() for text in stored], pa.large_binary())
    return pa.array([text.view(torch.uint8).numpy().tobytes() for text in stored], pa.large_binary())


def latents_from_table(table: pa.Table) -> tuple[Float16[Tensor, "n ... c h w"], Float16[Tensor, "n ... c h w"]]:
    """Mean and standard deviation of every row's latent; raises SchemaMismatch where the column is not a latent."""
    return _latents(table, "latent_mean"), stds_from_table(table, "latent_std")


def stds_from_table(table: pa.Table, name: str) -> Float16[Tensor, "n ... c h w"]:
    """Standard deviations of every row, in whatever way they are stored."""
    field = _field(table, name)
    if b"codec" not in field:
        return _latents(table, name)
    shape = tuple(int(size) for size in field[b"shape"].split(b","))
    found = torch.zeros(table.num_rows, *shape, dtype=torch.float16)
    for row, value in enumerate(table.column(name)):
        read_std(np.frombuffer(value.as_py(), np.uint8), found[row].view(-1, shape[-2] * shape[-1]).numpy())
    return found


def text_from_table(table: pa.Table) -> tuple[Float[Tensor, "words t"], np.ndarray]:
    """All texts one after the other, in their stored type, and the number of tokens of each row (int64)."""
    field = _field(table, "text")
    dim = int(field[b"shape"].split(b",")[1])
    dtype = TORCH_DTYPES[field[b"dtype"].decode()]
    tokens = table.column("text_tokens").to_numpy().astype(np.int64)
    if b"codec" in field:
        return _quantised(table, tokens, dim, dtype), tokens
    parts = [_text_bytes(chunk) for chunk in table.column("text").chunks]
    raw = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, np.uint8)])
    if len(raw) != 2 * dim * int(tokens.sum()):
        raise SchemaMismatch(f"texts: text holds {len(raw)} bytes, text_tokens says {2 * dim * int(tokens.sum())}")
    return _tensor(raw, dtype).view(-1, dim), tokens


def _quantised(table: pa.Table, tokens: np.ndarray, dim: int, dtype: torch.dtype) -> Float[Tensor, "words t"]:
    found = torch.zeros(int(tokens.sum()), dim, dtype=dtype)
    bits = bits_of(found)
    for value, place, count in zip(table.column("text"), np.cumsum(tokens) - tokens, tokens, strict=True):
        raw = np.frombuffer(value.as_py(), np.uint8)
        if len(raw) != count * text_bytes(dim):
            raise SchemaMismatch(f"texts: text holds {len(raw)} bytes, text_tokens says {count * text_bytes(dim)}")
        read_text(raw, bits[place : place + count], dtype)
    return found


def id_numbers(ids: Sequence[str]) -> np.ndarray:
    """Ids of 32 hex digits as 16 bytes each, which are equal and sort as the ids do. Raises SchemaMismatch."""
    try:
        raw = b"".join(bytes.fromhex(id) for id in ids)
    except ValueError:
        raw = b""
    if len(raw) != 16 * len(ids):
        wrong = next(id for id in ids if len(id) != 32 or not set(id) <= set(string.hexdigits))
        raise SchemaMismatch(f"id {wrong[:80]!r} is no digest of 32 hex digits")
    return np.frombuffer(raw, "S16") if ids else np.zeros(0, "S16")


def id_of(number: bytes) -> str:
    """The id of one of `id_numbers`, whose zeros at the end numpy drops."""
    return number.ljust(16, bytes(1)).hex()


def _latents(table: pa.Table, name: str) -> Float16[Tensor, "n ... c h w"]:
    shape = tuple(int(size) for size in _field(table, name)[b"shape"].split(b","))
    width = table.schema.field(name).type.byte_width
    parts = [_fixed_bytes(chunk, width) for chunk in table.column(name).chunks]
    raw = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, np.uint8)])
    if width != 2 * int(np.prod(shape)):
        raise SchemaMismatch(
            f"features: {name} has {width} bytes a row, shape {shape} in float16 needs {2 * int(np.prod(shape))}"
        )
    return _tensor(raw, torch.float16).view(-1, *shape)


def _field(table: pa.Table, name: str) -> dict[bytes, bytes]:
    metadata = table.schema.field(name).metadata
    if not metadata or b"shape" not in metadata:
        raise SchemaMismatch(f"column {name} carries no shape; neither stage encode nor texts wrote it")
    return metadata


def _fixed_bytes(chunk: pa.FixedSizeBinaryArray, width: int) -> np.ndarray:
    data = np.frombuffer(chunk.buffers()[1], np.uint8)
    return data[chunk.offset * width : (chunk.offset + len(chunk)) * width]


def _text_bytes(chunk: pa.LargeBinaryArray) -> np.ndarray:
    _, offsets, data = chunk.buffers()
    place = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
    if data is None or len(chunk) == 0:
        return np.zeros(0, np.uint8)
    return np.frombuffer(data, np.uint8)[place[0] : place[-1]]


def _tensor(raw: np.ndarray, dtype: torch.dtype) -> Tensor:
    # Arrow's buffers are read-only and torch warns about sharing them: one copy a column makes them ours, and aligned.
    return torch.from_numpy(raw.copy().view(np.int16)).view(dtype)
