"""Precision of matrix products."""

from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def mixed_precision(precision: Precision, device: str) -> torch.autocast:
    """Autocast to bfloat16, or none, for a forward pass on `device` ("cpu", "cuda").

    `precision` is "bf16", "fp32", or "auto": bfloat16 where the device multiplies it natively.
    """
    native = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and native))
