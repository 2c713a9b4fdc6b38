"""The machine that a recipe is planned for: this one, or another that `8xH100` describes."""

import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lightgen.errors import ConfigError
from lightgen.model.precision import TrainingPrecision
from lightgen.settings import cores

GB = 10**9
SPEC = re.compile(r"^(?:(\d+)\s*x\s*)?([A-Za-z0-9-]+)$")


@dataclass(frozen=True)
class Gpu:
    """A model of GPU by its data sheet: memory, and dense products without sparsity, of bfloat16 and of float32."""

    name: str
    memory: float
    flops: float
    float32_flops: float

    def flops_in(self, precision: TrainingPrecision) -> float:
        """Products of a precision; those of TF32 are half of those of bfloat16 on every one of them."""
        return {"fp32": self.float32_flops, "tf32": self.flops / 2}.get(precision, self.flops)


# Longer names first: the first whose parts are all in the driver's name of a device counts.
GPUS = (
    Gpu("A100-80", 80 * GB, 312e12, 19.5e12),
    Gpu("A100-40", 40 * GB, 312e12, 19.5e12),
    Gpu("H100", 80 * GB, 989e12, 67e12),
    Gpu("H200", 141 * GB, 989e12, 67e12),
    Gpu("L40S", 48 * GB, 362e12, 91.6e12),
    Gpu("4090", 24 * GB, 165e12, 82.6e12),
    Gpu("L4", 24 * GB, 121e12, 30.3e12),
)


@dataclass(frozen=True)
class Machine:
    """What a run has to work with. Without `gpu` the processor works.

    memory: of a GPU, or of the processor; disk: free bytes where the store is, None where they are not counted, as on
    S3 or on another machine.
    """

    name: str
    gpus: int
    gpu: Gpu | None
    memory: float
    disk: float | None = None

    def device_flops(self, precision: TrainingPrecision = "auto") -> float:
        """Operations a second of one device: of the data sheet, or as a processor reaches in a trial of a second."""
        return self.gpu.flops_in(precision) if self.gpu else _measured_flops("cpu")

    @property
    def devices(self) -> int:
        """Devices that work side by side."""
        return max(1, self.gpus)


def described(spec: str) -> Machine:
    """The machine of `8xH100`, `A100-80` or the like. Raises ConfigError naming those that are known."""
    found = SPEC.match(spec.strip())
    known = {gpu.name.lower(): gpu for gpu in GPUS}
    gpu = known.get(found[2].lower()) if found else None
    if found is None or gpu is None:
        raise ConfigError(f"--on {spec}: write 8xH100 or the like; known are {', '.join(gpu.name for gpu in GPUS)}")
    count = int(found[1] or 1)
    if count < 1:
        raise ConfigError(f"--on {spec}: at least one GPU")
    return Machine(f"{count} x {gpu.name}", count, gpu, gpu.memory)


def this_machine(store: str) -> Machine:
    """The machine that this runs on; `store` is where its disk counts."""
    import torch

    disk = None if "://" in store.removeprefix("file://") else _free(Path(store.removeprefix("file://")).expanduser())
    if not torch.cuda.is_available():
        return Machine(f"this machine, {cores()} cores", 0, None, _memory(), disk)
    facts = torch.cuda.get_device_properties(0)
    count, memory = torch.cuda.device_count(), facts.total_memory
    sheet = known_gpu(facts.name, memory)
    measured = 0.0 if sheet else _measured_flops("cuda")
    gpu = Gpu(facts.name, memory, sheet.flops if sheet else measured, sheet.float32_flops if sheet else measured)
    return Machine(f"this machine, {count} x {facts.name}", count, gpu, memory, disk)


def known_gpu(name: str, memory: float) -> Gpu | None:
    """The data sheet of a device, by the driver's name for it."""
    fitting = [gpu for gpu in GPUS if gpu.name.split("-")[0].lower() in re.split(r"[\s_-]+", name.lower())]
    return min(fitting, key=lambda gpu: abs(gpu.memory - memory), default=None)


def _free(folder: Path) -> float:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return float(shutil.disk_usage(there).free)


def _memory() -> float:
    import psutil

    return float(psutil.virtual_memory().total)


@cache
def _measured_flops(device: str) -> float:
    from lightgen.training.speed import matmul_ceiling

    return matmul_ceiling(device)
