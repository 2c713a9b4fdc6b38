"""The one module that reads the environment and picks the device."""

import os
import tempfile
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]


def default_store() -> str:
    """Where the store lies when nobody says: `LIGHTGEN_STORE`, then `./store`."""
    return os.environ.get("LIGHTGEN_STORE", "store")


def cache_folder() -> Path:
    """Where copies of files wait: `LIGHTGEN_CACHE`, then `XDG_CACHE_HOME`/lightgen, then ~/.cache/lightgen."""
    given = os.environ.get("LIGHTGEN_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightgen"


def secret(name: str) -> str | None:
    """The key of a service: the environment variable of that name. It goes into no message, log or version."""
    return os.environ.get(name)


def s3_endpoint() -> str | None:
    """Address of an S3 server other than AWS: `AWS_ENDPOINT_URL_S3`, then `AWS_ENDPOINT_URL`."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def gpu_lock_folder() -> Path:
    """Where the runs of a machine keep its GPUs apart: `LIGHTGEN_GPU_LOCKS`, then a folder among the temporary files.

    Containers that share GPUs must share this folder too.
    """
    return Path(os.environ.get("LIGHTGEN_GPU_LOCKS") or Path(tempfile.gettempdir()) / "lightgen-gpu")


def pick_device(device: Device = "auto") -> str:
    """`auto` is the GPU where there is one."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def local_device(device: str, local_rank: int) -> str:
    """`device` of one process among several on this machine: each has a GPU of its own."""
    return f"cuda:{local_rank}" if device == "cuda" else device


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def numba_follows_torch() -> None:
    """Numba starts as many threads as the user gives torch, unless NUMBA_NUM_THREADS says otherwise.

    Both it and torch ask OpenMP, and whoever starts threads last sets the number for both. With threads for every core
    a decision would thus change the last bits of what the same process trains after it.
    """
    if given := _threads_of_torch():
        os.environ.setdefault("NUMBA_NUM_THREADS", given)


def _threads_of_torch() -> str:
    """What the user set: MKL_NUM_THREADS, which torch takes first, or the first number of OMP_NUM_THREADS."""
    given = os.environ.get("MKL_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS", "")
    return given.partition(",")[0]


def worker_environment(gpu: str, threads: int) -> dict[str, str]:
    """What the process of a worker inherits: this environment, one GPU or none ("") in view, its share of the cores.

    Numbers of threads that the user set stay.
    """
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    limits["NUMBA_NUM_THREADS"] = _threads_of_torch() or str(threads)
    return {**limits, **os.environ, "CUDA_VISIBLE_DEVICES": gpu}


def no_usage_statistics() -> None:
    """Ray sends nothing about its use, unless the user allows it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def torchrun_place() -> tuple[int, int, int] | None:
    """Rank, number of processes and rank on this machine, where torchrun started this process."""
    if "RANK" not in os.environ:
        return None
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])


def quiet_libraries() -> None:
    """Libraries of models show no notes and bars, here and in processes to come, unless the user wants them."""
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def deterministic_matrix_products() -> None:
    """Let cuBLAS take workspaces of a fixed size, unless the user chose some: without them it refuses to be exact."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
