"""Memory that training frees on a CPU stays in the process, and goes back at the end."""

import ctypes
import resource

import pytest
import torch

from lightgen.training.allocator import kept_memory

NUMBERS, PAGE = 10_000_000, 4096  # 40 MB: more than glibc keeps by itself

pytestmark = pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc only")


def _pages(rounds: int) -> int:
    """Pages that the system had to map while a buffer was asked for, written and freed again and again."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        torch.ones(NUMBERS)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])


def test_freed_memory_is_kept_inside_and_given_back_after() -> None:
    mapped = 4 * NUMBERS // PAGE
    with kept_memory("cpu"):
        _pages(20)
        assert _pages(4) < 0.1 * mapped
        held = _resident()
    assert _resident() < held - 0.9 * mapped
    assert _pages(4) > 3 * mapped


def test_null_control_with_a_gpu_nothing_changes() -> None:
    with kept_memory("cuda"):
        _pages(1)
        assert _pages(4) > 12 * NUMBERS // PAGE
