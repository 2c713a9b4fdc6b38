"""Numbers that a device has yet to compute, read without letting it wait."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def read_later(values: Float[Tensor, " n"]) -> Callable[[], list[float]]:
    """Begin to copy `values` to the CPU; what is returned waits for them only, not for what is asked afterwards."""
    if values.device.type != "cuda":
        return values.tolist
    copied, done = values.to("cpu", non_blocking=True), torch.cuda.Event()
    done.record()

    def read() -> list[float]:
        done.synchronize()
        return copied.tolist()

    return read
