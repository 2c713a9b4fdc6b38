"""Reads a student back from a CHECKPOINT version."""

import json
from typing import Literal

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from lightgen.config import Config
from lightgen.encoders.restore import Encoders
from lightgen.errors import CheckpointCorrupt
from lightgen.model.config import StudentConfig
from lightgen.model.student import Student
from lightgen.storage.version import Version

Weights = Literal["ema", "model"]


class CheckpointConfig(Config):
    """`config.json` of a checkpoint: what it takes to draw images with it. Versions are named by their content."""

    student: StudentConfig
    encoders: Encoders
    steps: int

    @property
    def size_px(self) -> int:
        """Side of the images it was trained on."""
        return self.encoders.size_px


def checkpoint_config(version: Version) -> CheckpointConfig:
    """The settings a checkpoint was written with."""
    path = version.file("config.json")
    try:
        return CheckpointConfig.model_validate_json(path.read_text())
    except (ValidationError, json.JSONDecodeError) as error:
        raise CheckpointCorrupt(f"{version.ref}: config.json does not describe a student: {error}") from error


def load_student(version: Version, weights: Weights = "ema") -> Student:
    """The student of a checkpoint, ready to draw with."""
    student = Student(checkpoint_config(version).student)
    try:
        student.load_state_dict(load_file(version.file(f"{weights}.safetensors")))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointCorrupt(
            f"{version.ref}: {weights}.safetensors does not fit its config.json: {error}"
        ) from error
    return student.eval()
