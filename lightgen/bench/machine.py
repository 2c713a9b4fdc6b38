"""What a benchmark ran on, for the table it prints."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Processor, cores that this process may use, and load at this moment."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = "1 core" if cores == 1 else f"{cores} cores"
    return f"{name}, {count}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"
