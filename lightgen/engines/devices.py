"""The devices of this machine, one for each worker."""

from dataclasses import dataclass

from lightgen.engines.gpu_slot import visible_gpus
from lightgen.errors import ConfigError
from lightgen.settings import cores
from lightgen.work import Needs, RunConfig


@dataclass(frozen=True)
class Device:
    """What one worker has of a machine: a GPU as `CUDA_VISIBLE_DEVICES` names it, or none (""), and threads."""

    gpu: str
    threads: int

    @property
    def name(self) -> str:
        """What torch calls it, in a process that sees no other."""
        return "cuda" if self.gpu else "cpu"


def devices(run: RunConfig, needs: Needs) -> list[Device]:
    """A device for each worker of a stage. Raises ConfigError where `run` wants more than there are."""
    gpus = visible_gpus() if needs.gpu and run.device != "cpu" else []
    if needs.gpu and run.device == "cuda" and not gpus:
        raise ConfigError("run.device is cuda, but this machine shows no GPU; set it to auto, or see nvidia-smi")
    most = len(gpus) or cores()
    count = most if run.workers == "auto" else run.workers
    if gpus and count > len(gpus):
        raise ConfigError(
            f"run.workers is {count}, but this process sees {len(gpus)} GPUs and each worker has one to itself; "
            "set workers: auto"
        )
    threads = max(1, cores() // count)
    return [Device(gpu, threads) for gpu in gpus[:count] or [""] * count]
