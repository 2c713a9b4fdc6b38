"""The C library's allocator while training runs on a CPU."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Options of glibc's mallopt.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
# What glibc's own, moving thresholds end at.
USUAL_TRIM, USUAL_MMAP = 64 << 20, 32 << 20
NEVER = 1 << 30


@contextmanager
def kept_memory(device: str) -> Iterator[None]:
    """Let a process that trains on a CPU keep the memory it frees, until the end; elsewhere nothing changes.

    Every step frees and asks for the same buffers. When they go back to the system in between, each page of them is
    zeroed and mapped again: a twentieth of a step of the demo.
    """
    library: Any = ctypes.CDLL(None) if device == "cpu" else None
    if not hasattr(library, "mallopt"):  # only glibc has it
        yield
        return
    _set(library, NEVER, NEVER)
    try:
        yield
    finally:
        _set(library, USUAL_TRIM, USUAL_MMAP)
        library.malloc_trim(0)


def _set(library: Any, trim: int, mmap: int) -> None:
    library.mallopt(TRIM_THRESHOLD, trim)
    library.mallopt(MMAP_THRESHOLD, mmap)
