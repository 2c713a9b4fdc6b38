"""The one module that reads the environment and picks the device."""

import os
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]


def default_store() -> str:
    """Where the store lies when nobody says: `LIGHTGEN_STORE`, then `./store`."""
    return os.environ.get("LIGHTGEN_STORE", "store")


def s3_endpoint() -> str | None:
    """Address of an S3 server other than AWS: `AWS_ENDPOINT_URL_S3`, then `AWS_ENDPOINT_URL`."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def pick_device(device: Device = "auto") -> str:
    """`auto` is the GPU where there is one."""
    import torch

    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
