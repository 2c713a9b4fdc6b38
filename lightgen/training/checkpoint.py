"""Sealed checkpoints of a run: a folder counts only when its manifest, written last, agrees with every byte."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightgen.errors import CheckpointCorrupt, ResumeMismatch

MANIFEST = "manifest.json"
KEPT = 2
_log = logging.getLogger(__name__)

Groups = dict[str, dict[str, Tensor]]


def save(folder: Path, step: int, run: str, groups: Groups, texts: dict[str, str]) -> Path:
    """Seal the state after `step` steps of run `run`: one safetensors file a group, one file a text.

    The folder's name is new at every attempt, so a torn save is never mistaken for a whole one.
    """
    place = folder / f"step-{step:08d}.{token_hex(4)}"
    place.mkdir(parents=True)
    for name, tensors in groups.items():
        save_file({key: value.contiguous() for key, value in tensors.items()}, place / f"{name}.safetensors")
    for name, text in texts.items():
        (place / name).write_text(text)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for path in sorted(place.iterdir())}
    for name in files:
        _sync(place / name)
    manifest = place / f"{MANIFEST}.tmp"
    manifest.write_text(json.dumps({"step": step, "run": run, "files": files}, indent=1))
    _sync(manifest)
    manifest.rename(place / MANIFEST)
    _sync(place)
    _sync(folder)
    _forget_old(folder)
    return place


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
    """The tensors of one group of a verified checkpoint."""
    try:
        return load_file(place / f"{group}.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointCorrupt(f"{place / group}.safetensors cannot be read: {error}") from error


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
            raise CheckpointCorrupt(f"{path} is missing or not what its manifest says")
    return manifest


def _forget_old(folder: Path) -> None:
    """Keep the newest sealed checkpoints; torn folders older than them go too."""
    sealed = 0
    for place in list(_folders(folder)):
        if sealed >= KEPT:
            shutil.rmtree(place)
        elif (place / MANIFEST).exists():
            sealed += 1


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
