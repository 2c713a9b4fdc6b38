"""How fast a run goes: images a second, model FLOP/s by formula, and their share of what the device can do."""

import time
from collections.abc import Callable

import torch

from lightgen.model.student import Student
from lightgen.training.objectives import Objective
from lightgen.training.state import Run

ROUNDS = 5
SMOOTH = 0.1  # weight of the newest step in the shown rate


class Meter:
    """The rate of a run as a short note; the ceiling of MFU is measured where there is a GPU."""

    def __init__(self, objective: Objective, student: Student, device: torch.device, processes: int) -> None:
        self.batch_size, self.processes = objective.batch_size, processes
        self.flops = objective.flops(student) * objective.batch_size
        self.ceiling = matmul_ceiling("cuda") if device.type == "cuda" else 0.0
        self.seconds = 0.0

    def note(self, loss: float, seconds: float) -> str:
        """Loss and rate after a step of `seconds`."""
        self.seconds = seconds if not self.seconds else (1 - SMOOTH) * self.seconds + SMOOTH * seconds
        rate = self.flops / self.seconds
        share = f", MFU {rate / self.processes / self.ceiling:.0%}" if self.ceiling else ""
        return f"loss {loss:.4f}, {self.batch_size / self.seconds:,.0f} img/s, {rate / 1e12:.2g} TFLOP/s{share}"


def summary(run: Run, objective: Objective, processes: int) -> dict[str, float | int | str]:
    """What a finished run cost: rate, FLOP/s, MFU (0 on a CPU, where no ceiling is measured) and device-hours."""
    device, seconds = run.student.null_text.device.type, max(run.seconds, 1e-9)
    images = run.step * objective.batch_size
    rate = images * objective.flops(run.student) / seconds
    ceiling = matmul_ceiling("cuda") * processes if device == "cuda" else 0.0
    return {
        "images_per_s": images / seconds,
        "tflops": rate / 1e12,
        "mfu": rate / ceiling if ceiling else 0.0,
        "gpu_hours": seconds * processes / 3600,
        "seconds": run.seconds,
        "processes": processes,
        "device": device,
    }


def matmul_ceiling(device: str) -> float:
    """FLOP/s of the faster of bfloat16 and float32 products of square matrices here, in the best of some rounds."""
    n = 8192 if device == "cuda" else 1024
    seconds = []
    for kind in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
        # A ceiling is what can be reached: a round that others disturbed would flatter every MFU under it.
        seconds += [timed(lambda a=a, b=b: a @ b, 10, device)[0] for _ in range(ROUNDS)]
    return 2 * n**3 / min(seconds)


def timed(work: Callable[[], object], repeats: int, device: str) -> tuple[float, float]:
    """Seconds a call after one to warm up, and the peak of the device's memory in GB (0 on a CPU)."""
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
