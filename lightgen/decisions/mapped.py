"""Arrays in files without a name, which are mapped: their pages can be let go, and are read again when needed."""

import mmap
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np


class Pile:
    """An array of rows, gathered part by part in a file of `folder`, which is gone when nobody holds it."""

    def __init__(self, folder: Path, dtype: type[np.generic], row: tuple[int, ...] = ()) -> None:
        self.dtype, self.row, self._rows = np.dtype(dtype), row, 0
        self.file = TemporaryFile(dir=folder)  # noqa: SIM115 - `read` closes it, or its end does

    def add(self, part: np.ndarray) -> None:
        """More rows behind those that are there."""
        self.file.write(np.ascontiguousarray(part, self.dtype).data)
        self._rows += len(part)

    def read(self) -> np.ndarray:
        """All rows, to be read only."""
        with self.file:
            if not self._rows:
                return np.zeros((0, *self.row), self.dtype)
            self.file.flush()
            return np.memmap(self.file, self.dtype, "r", shape=(self._rows, *self.row))


def forget(array: np.ndarray) -> None:
    """Lets go of the pages of an array in a file; of one in memory nothing."""
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap):
        array.base.madvise(mmap.MADV_DONTNEED)
