"""The devices of this machine: one for each worker, and each GPU for one worker at a time, whichever run it is of."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lightgen.engines.gpu_slot import gpu_slots, visible_gpus
from lightgen.errors import ConfigError
from lightgen.settings import cores, pick_device
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


@contextmanager
def held_device(run: RunConfig, needs: Needs) -> Iterator[str]:
    """The device of a worker in this process, once no other run has it: the first GPU, for a job all of them."""
    if not needs.gpu or pick_device(run.device) == "cpu":
        yield "cpu"
        return
    gpus = visible_gpus()
    with gpu_slots(gpus if needs.sort == "job" else gpus[:1]):
        yield "cuda"


@contextmanager
def held_view(device: str) -> Iterator[None]:
    """For a process that sees no device but its own: wait until no other run has it."""
    if device == "cpu":
        yield
        return
    with gpu_slots():
        yield
