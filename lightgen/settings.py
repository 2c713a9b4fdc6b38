"""The one module that reads the environment and picks the device."""

import os
import tempfile
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]


def default_store() -> str:
    """Where the store lies when nobody says: `LIGHTGEN_STORE`, then `./store`."""
    return os.environ.get("LIGHTGEN_STORE", "store")


def s3_endpoint() -> str | None:
    """Address of an S3 server other than AWS: `AWS_ENDPOINT_URL_S3`, then `AWS_ENDPOINT_URL`."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def gpu_lock_folder() -> Path:
    """Where the runs of a machine keep its GPUs apart: `LIGHTGEN_GPU_LOCKS`, then a folder among the temporary files.

    Containers that share GPUs must share this folder too.
    """
    return Path(os.environ.get("LIGHTGEN_GPU_LOCKS") or Path(tempfile.gettempdir()) / "lightgen-gpu")


def pick_device(device: Device = "auto", local_rank: int = 0) -> str:
    """`auto` is the GPU where there is one; of several, that of `local_rank`."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{local_rank}" if device == "cuda" and local_rank else device


def torchrun_place() -> tuple[int, int, int] | None:
    """Rank, number of processes and rank on this machine, where torchrun started this process."""
    if "RANK" not in os.environ:
        return None
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])


def deterministic_matrix_products() -> None:
    """Let cuBLAS take workspaces of a fixed size, unless the user chose some: without them it refuses to be exact."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
