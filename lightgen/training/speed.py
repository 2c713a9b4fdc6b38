"""The speed of a run: images a second, model FLOP/s by formula, and model FLOP/s utilization (MFU)."""

import time
from collections.abc import Callable

import torch

from lightgen.model.student import Student
from lightgen.training.objectives import Objective
from lightgen.training.state import TrainState

ROUNDS = 5
SMOOTHING = 0.1  # weight of the newest step in the shown rate


class SpeedMeter:
    """The speed of a run as a short note, with MFU on a GPU, where its ceiling is measured first."""

    def __init__(self, objective: Objective, student: Student, device: torch.device, processes: int) -> None:
        self.batch_size, self.processes = objective.batch_size, processes
        self.flops = objective.flops(student) * objective.batch_size
        self.ceiling = matmul_ceiling("cuda") if device.type == "cuda" else 0.0
        self.seconds = 0.0

    def note(self, loss: float, seconds: float) -> str:
        """Loss and speed after a step that took `seconds`."""
        self.seconds = seconds if not self.seconds else (1 - SMOOTHING) * self.seconds + SMOOTHING * seconds
        rate = self.flops / self.seconds
        share = f", MFU {rate / self.processes / self.ceiling:.0%}" if self.ceiling else ""
        return f"loss {loss:.4f}, {self.batch_size / self.seconds:,.0f} img/s, {rate / 1e12:.2g} TFLOP/s{share}"


def summary(state: TrainState, objective: Objective, processes: int) -> dict[str, float | int | str]:
    """Speed and cost of a finished run; MFU is 0 on a CPU, where no ceiling is measured."""
    device, seconds = state.student.null_text.device.type, max(state.seconds, 1e-9)
    images = state.step * objective.batch_size
    rate = images * objective.flops(state.student) / seconds
    ceiling = matmul_ceiling("cuda") * processes if device == "cuda" else 0.0
    return {
        "images_per_s": images / seconds,
        "tflops": rate / 1e12,
        "mfu": rate / ceiling if ceiling else 0.0,
        "gpu_hours": seconds * processes / 3600,
        "seconds": state.seconds,
        "processes": processes,
        "device": device,
    }


def matmul_ceiling(device: str) -> float:
    """FLOP/s of square matrix products here: the best of some rounds, of the faster of bfloat16 and float32."""
    n = 8192 if device == "cuda" else 1024
    seconds = []
    for kind in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
        # A ceiling is what can be reached: a round that others disturbed would flatter every MFU under it.
        seconds += [timed(lambda a=a, b=b: a @ b, 10, device)[0] for _ in range(ROUNDS)]
    return 2 * n**3 / min(seconds)


def timed(work: Callable[[], object], repeats: int, device: str) -> tuple[float, float]:
    """Seconds a call, after one to warm up, and peak device memory in GB (0 on a CPU)."""
    work()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / repeats
    return seconds, torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
