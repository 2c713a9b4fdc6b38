"""Precision of matrix products."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]
TrainingPrecision = Literal["auto", "bf16", "fp32", "tf32"]


def mixed_precision(precision: TrainingPrecision, device: str) -> torch.autocast:
    """Autocast to bfloat16, or none, for a forward pass on `device` ("cpu", "cuda").

    `precision` is "bf16", "fp32", "tf32", or "auto": bfloat16 where the device multiplies it natively.
    """
    native = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and native))


@contextmanager
def float32_products(precision: TrainingPrecision) -> Iterator[None]:
    """With "tf32", float32 products on a GPU read 10 bits of each mantissa (TF32); on a CPU they stay what they are.

    Backward passes run outside of autocast, so this is to be held around them too. Restored at the end.
    """
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, precision == "tf32"
    try:
        yield
    finally:
        products.allow_tf32 = before
