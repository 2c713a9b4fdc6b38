"""Memory that training frees on a CPU stays in the process, and goes back at the end."""

import ctypes

import pytest
import torch

from lightgen.bench.apart import apart
from lightgen.training.allocator import kept_memory

NUMBERS, PAGE = 10_000_000, 4096  # 40 MB: more than glibc keeps by itself
MAPPED = 4 * NUMBERS // PAGE
C = ctypes.CDLL(None)

pytestmark = pytest.mark.skipif(not hasattr(C, "mallopt"), reason="glibc only")


def _resident() -> int:
    """Pages that the process holds. Faults would say less: the system may map two megabytes at one."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])


def _held(device: str) -> tuple[int, int, int]:
    """Pages beyond the first that are held after 20 freed buffers, after 20 more, and at the end of all."""
    torch.ones(10)
    first = _resident()
    with kept_memory(device):
        _buffers(20)
        once = _resident() - first
        _buffers(20)
        twice = _resident() - first
    return once, twice, _resident() - first


def _buffers(rounds: int) -> None:
    for _ in range(rounds):
        torch.ones(NUMBERS)


# Each in a fresh process: what a heap has left from before is taken before the system is asked for more.
def test_freed_memory_is_kept_inside_and_given_back_after() -> None:
    once, twice, after = apart(_held, "cpu")
    assert once > 0.9 * MAPPED
    assert twice < once + 0.1 * MAPPED
    assert after < 0.1 * MAPPED


def test_null_control_with_a_gpu_nothing_changes() -> None:
    assert max(apart(_held, "cuda")) < 0.1 * MAPPED
