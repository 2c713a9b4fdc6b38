"""Sealed checkpoints of a run: a folder counts only when its manifest, written last, agrees with every byte.

Every process writes its share of the tensors, whole ones, as safetensors and then a receipt; the first process seals
when all receipts are there. So a checkpoint can be read by any number of processes, and nothing in it is pickle.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightgen.errors import CheckpointCorrupt, ResumeMismatch
from lightgen.training.ranks import World

MANIFEST = "manifest.json"
KEPT = 2
RECEIPTS_WITHIN_S = 1800.0
_log = logging.getLogger(__name__)

Groups = dict[str, dict[str, Tensor]]


@dataclass
class Saver:
    """Writes checkpoints beside the training, one at a time; `attempt` is new at every start of the run.

    A folder's name is never used twice, so a torn save is never mistaken for a whole one.
    """

    folder: Path
    run: str
    world: World
    attempt: str
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"))
    _pending: "Future[None] | None" = None

    def save(self, step: int, groups: Groups, texts: dict[str, str]) -> None:
        """Begin to write this process's share, which must be its own copy; waits for the save before."""
        self.wait()
        place = self.folder / f"step-{step:08d}.{self.attempt}"
        self._pending = self._thread.submit(self._write, place, step, groups, texts)

    def check(self) -> None:
        """Raise what went wrong in a save that has ended."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written; raises what went wrong."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the save in work end; where nothing else went wrong, raise what did in it."""
        self._thread.shutdown()
        if kind is None:
            self.wait()

    def _write(self, place: Path, step: int, groups: Groups, texts: dict[str, str]) -> None:
        write_share(place, self.world.rank, groups, texts)
        if self.world.leads:
            seal(place, step, self.run, self.world.size)
            _forget_old(self.folder)


def write_share(place: Path, rank: int, groups: Groups, texts: dict[str, str]) -> None:
    """One safetensors file a group, one file a text, and the receipt that names their digests, on disk for good."""
    place.mkdir(parents=True, exist_ok=True)
    paths = {place / f"{name}.{rank:05d}.safetensors": tensors for name, tensors in groups.items() if tensors}
    for path, tensors in paths.items():
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    for name, text in texts.items():
        (place / name).write_text(text)
    written = [*paths, *(place / name for name in texts)]
    for path in written:
        _sync(path)
    facts = {path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in sorted(written)}
    _put(place / f"receipt.{rank:05d}.json", json.dumps(facts))


def seal(place: Path, step: int, run: str, processes: int, within_s: float = RECEIPTS_WITHIN_S) -> None:
    """Write the manifest once every process's receipt is there. Raises TimeoutError where one stays away."""
    give_up = time.monotonic() + within_s
    while len(receipts := sorted(place.glob("receipt.*.json"))) < processes:
        if time.monotonic() > give_up:
            raise TimeoutError(f"{place}: {len(receipts)} of {processes} processes wrote their share in {within_s:g} s")
        time.sleep(0.01)
    files = {name: fact for receipt in receipts for name, fact in json.loads(receipt.read_text()).items()}
    _put(place / MANIFEST, json.dumps({"step": step, "run": run, "processes": processes, "files": files}, indent=1))
    _sync(place.parent)


def newest(folder: Path, run: str) -> tuple[int, Path] | None:
    """Step and folder of the newest sealed checkpoint that verifies; damaged ones are skipped with a warning."""
    for place in _folders(folder):
        if not (place / MANIFEST).exists():
            continue
        try:
            manifest = _verify(place)
        except CheckpointCorrupt as damage:
            _log.warning("%s; falling back to the checkpoint before it", damage)
            continue
        if manifest["run"] != run:
            raise ResumeMismatch(
                f"{place} belongs to run {manifest['run'][:12]}, not to {run[:12]}: settings, data or seed differ. "
                "Use the settings it was started with, or another folder"
            )
        return manifest["step"], place
    return None


def load(place: Path, group: str) -> dict[str, Tensor]:
    """The tensors of one group of a verified checkpoint, put together from all shares."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(place.glob(f"{group}.*.safetensors")):
        try:
            tensors.update(load_file(path))
        except (OSError, SafetensorError) as error:
            raise CheckpointCorrupt(f"{path} cannot be read: {error}") from error
    return tensors


def _folders(folder: Path) -> Iterator[Path]:
    """Checkpoint folders, newest step first."""
    yield from sorted(folder.glob("step-*"), reverse=True)


def _verify(place: Path) -> dict:
    """The manifest, once every file it lists has the bytes it says."""
    try:
        manifest = json.loads((place / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointCorrupt(f"{place / MANIFEST} cannot be read: {error}") from error
    for name, fact in manifest["files"].items():
        path = place / name
        if not path.exists() or path.stat().st_size != fact["bytes"] or _digest(path) != fact["sha256"]:
            raise CheckpointCorrupt(f"{path} is not what its manifest says")
    return manifest


def _forget_old(folder: Path) -> None:
    """Keep the newest sealed checkpoints; torn folders older than them go too."""
    sealed = 0
    for place in list(_folders(folder)):
        if sealed >= KEPT:
            shutil.rmtree(place)
        elif (place / MANIFEST).exists():
            sealed += 1


def _put(path: Path, text: str) -> None:
    """A whole file under its name, or none."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(text)
    _sync(draft)
    draft.rename(path)
    _sync(path.parent)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
