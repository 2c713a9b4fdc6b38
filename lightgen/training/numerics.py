"""Precision of matrix products, and what makes training reproducible on one machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lightgen.settings import deterministic_matrix_products


def mixed_precision(precision: str, device: str) -> torch.autocast:
    """Autocast to bfloat16, or none, for a forward pass on `device` ("cpu", "cuda").

    `precision` is "bf16", "fp32", or "auto": bfloat16 where the device multiplies it natively.
    """
    native = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and native))


@contextmanager
def deterministic_mode(enabled: bool, threads: int | None) -> Iterator[None]:
    """Deterministic kernels, if `enabled`, and a fixed number of CPU threads (None: as before); restored at the end."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    mode: Any = torch.utils.deterministic
    filled = mode.fill_uninitialized_memory
    deterministic_matrix_products()
    # Deterministic mode writes NaN into all fresh memory, a tenth of a step; nothing here reads it before writing.
    mode.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    torch.set_num_threads(threads or before[0])
    try:
        yield
    finally:
        mode.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(before[1], warn_only=True)
        torch.set_num_threads(before[0])
