"""What a worker runs on: commit, libraries, device, class of machine. Shown to people, part of no name."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from schemas.documents import Provenance

ROOT = Path(__file__).parents[2]
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pyarrow", "pillow", "numba", "scipy")


@cache
def provenance(device: str) -> Provenance:
    """The provenance of this process on `device`."""
    return Provenance(
        commit=_commit(),
        python=platform.python_version(),
        libraries={name: found for name in LIBRARIES if (found := _version(name))},
        device=_device_name(device),
        host=f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} cores",
    )


def _commit() -> str:
    """The commit of a checkout, with `+` where tracked files differ from it; empty for an installed package."""
    if not (ROOT / ".git").exists():
        return ""
    head, changed = (_git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no"))
    return f"{head}+" if head and changed else head


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _device_name(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    import torch

    return torch.cuda.get_device_name(device)


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
