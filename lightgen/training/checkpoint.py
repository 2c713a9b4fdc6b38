"""Checkpoints of a run in progress. A folder counts only if its manifest, written last, agrees with every byte.

Every rank writes its share of the full tensors as safetensors, and then a receipt with their digests. Rank 0 writes the
manifest when all receipts are there: the checkpoint is then sealed. Any number of processes can read it, and nothing in
it is pickled.
"""

import json
import logging
import os
import re
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
from lightgen.storage.files import sha256_of_file
from lightgen.storage.local import speaking_of_space
from lightgen.training.ranks import World

MANIFEST = "manifest.json"
KEPT = 2
RECEIPTS_WITHIN_S = 1800.0
_log = logging.getLogger(__name__)

TensorGroups = dict[str, dict[str, Tensor]]


@dataclass
class Saver:
    """Writes checkpoints in a thread while training goes on, one at a time.

    `attempt` is a random word, new at every start of the run. No folder name is used twice, so that a torn checkpoint
    is never mistaken for a complete one.
    """

    folder: Path
    run: str
    world: World
    attempt: str
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"))
    _pending: "Future[None] | None" = None

    def save(self, step: int, groups: TensorGroups, texts: dict[str, str]) -> None:
        """Begin to write this rank's share, which nobody may change meanwhile; waits for the save before."""
        self.wait()
        folder = self.folder / f"step-{step:08d}.{self.attempt}"
        self._pending = self._thread.submit(self._write, folder, step, groups, texts)

    def check(self) -> None:
        """Raise the error of a save that has ended."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written; raise the error of that save, if any."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the save in work end; raise its error, unless another one is under way."""
        self._thread.shutdown()
        if kind is None:
            self.wait()

    def _write(self, folder: Path, step: int, groups: TensorGroups, texts: dict[str, str]) -> None:
        with speaking_of_space(self.folder):
            write_share(folder, self.world.rank, groups, texts)
            if self.world.is_main:
                seal(folder, step, self.run, self.world.size)
                _remove_old(self.folder)


def write_share(folder: Path, rank: int, groups: TensorGroups, texts: dict[str, str]) -> None:
    """Write one safetensors file a group, one file a text, then the receipt with their digests; all synced."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"{name}.{rank:05d}.safetensors": tensors for name, tensors in groups.items() if tensors}
    for path, tensors in paths.items():
        _save(path, tensors)
    for name, text in texts.items():
        (folder / name).write_text(text)
    written = [*paths, *(folder / name for name in texts)]
    for path in written:
        _sync(path)
    facts = {path.name: {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)} for path in sorted(written)}
    _write_atomically(folder / f"receipt.{rank:05d}.json", json.dumps(facts))


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write one file. Raises OSError where the system refuses, which safetensors tells in words only."""
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    except SafetensorError as error:
        told = re.search(r"\(os error (\d+)\)", str(error))
        if told is None:
            raise
        raise OSError(int(told[1]), os.strerror(int(told[1])), str(path)) from error


def seal(folder: Path, step: int, run: str, processes: int, within_s: float = RECEIPTS_WITHIN_S) -> None:
    """Write the manifest once the receipts of all processes are there. Raises TimeoutError after `within_s`."""
    give_up = time.monotonic() + within_s
    while len(receipts := sorted(folder.glob("receipt.*.json"))) < processes:
        if time.monotonic() > give_up:
            raise TimeoutError(
                f"{folder}: {len(receipts)} of {processes} processes wrote their share in {within_s:g} s"
            )
        time.sleep(0.01)
    files = {name: fact for receipt in receipts for name, fact in json.loads(receipt.read_text()).items()}
    manifest = {"step": step, "run": run, "processes": processes, "files": files}
    _write_atomically(folder / MANIFEST, json.dumps(manifest, indent=1))
    _sync(folder.parent)


def newest(runs: Path, run: str) -> tuple[int, Path] | None:
    """Step and folder of the newest sealed checkpoint that verifies, or None; damaged ones are skipped with a warning.

    Raises ResumeMismatch if it belongs to another run.
    """
    for folder in _folders(runs):
        if not (folder / MANIFEST).exists():
            continue
        try:
            manifest = _verify(folder)
        except CheckpointCorrupt as damage:
            _log.warning("%s; falling back to the checkpoint before it", damage)
            continue
        if manifest["run"] != run:
            raise ResumeMismatch(
                f"{folder} belongs to run {manifest['run'][:12]}, not to {run[:12]}: settings, data or seed differ. "
                "Use the settings it was started with, or another folder"
            )
        return manifest["step"], folder
    return None


def load(folder: Path, group: str) -> dict[str, Tensor]:
    """The tensors of one group of a verified checkpoint, from the shares of all ranks. Raises CheckpointCorrupt."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob(f"{group}.*.safetensors")):
        try:
            tensors.update(load_file(path))
        except (OSError, SafetensorError) as error:
            raise CheckpointCorrupt(f"{path} cannot be read: {error}") from error
    return tensors


def _folders(runs: Path) -> Iterator[Path]:
    """Checkpoint folders, newest step first."""
    yield from sorted(runs.glob("step-*"), reverse=True)


def _verify(folder: Path) -> dict:
    """The manifest, after comparing every file with it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointCorrupt(f"{folder / MANIFEST} cannot be read: {error}") from error
    for name, fact in manifest["files"].items():
        path = folder / name
        if not path.exists() or path.stat().st_size != fact["bytes"] or sha256_of_file(path) != fact["sha256"]:
            raise CheckpointCorrupt(f"{path} is not what its manifest says")
    return manifest


def _remove_old(runs: Path) -> None:
    """Keep the newest sealed checkpoints; remove older folders, sealed or torn."""
    sealed = 0
    for folder in list(_folders(runs)):
        if sealed >= KEPT:
            shutil.rmtree(folder)
        elif (folder / MANIFEST).exists():
            sealed += 1


def _write_atomically(path: Path, text: str) -> None:
    """A complete file under its name, or none."""
    draft = path.with_name(f"{path.name}.tmp")
    draft.write_text(text)
    _sync(draft)
    draft.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
