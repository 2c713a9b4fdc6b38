"""What makes training reproducible on one machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lightgen.settings import deterministic_matrix_products


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
