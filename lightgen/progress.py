"""Progress of long work: one small protocol; the terminal draws a bar, Prefect updates an artifact."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Progress(Protocol):
    """Receives how far a piece of work has come."""

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        """Begin work of `total` units ("rows", "steps", "images"), `done` of which an earlier run has done."""
        ...

    def advance(self, count: int, note: str = "") -> None:
        """`count` more units are done; `note` is a short figure to show, such as the loss."""
        ...

    def picture(self, path: Path) -> None:
        """`path` shows how the work goes: a PNG that may be gone later."""
        ...

    def finish(self) -> None:
        """The work is over."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None: ...
    def advance(self, count: int, note: str = "") -> None: ...
    def picture(self, path: Path) -> None: ...
    def finish(self) -> None: ...


SILENT = Silent()


def duration(seconds: float) -> str:
    """`75.2` as `1:15`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Terminal:
    """One line a stage with bar, rate and ETA: redrawn on a terminal, printed every `every_s` seconds in a log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, every_s: float = 10.0) -> None:
        self.clock, self.tty = clock, sys.stderr.isatty()
        self.every_s = 0.2 if self.tty else every_s
        self.title, self.unit, self.total, self.done = "", "", 0, 0
        self.began = self.drawn = 0.0
        self.found = 0  # done by an earlier run: says nothing about the rate

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.title, self.total, self.unit, self.done, self.found = title, total, unit, done, done
        self.began = self.drawn = self.clock()

    def advance(self, count: int, note: str = "") -> None:
        self.done += count
        now = self.clock()
        if now - self.drawn >= self.every_s:
            self.drawn = now
            self._draw(now - self.began, note)

    def picture(self, path: Path) -> None:
        end = "\n" if self.tty else ""
        sys.stderr.write(f"{end}{self.title:<26} pictures at {self.done:,} {self.unit}: {path}\n")

    def finish(self) -> None:
        self._draw(self.clock() - self.began, "", last=True)

    def _draw(self, elapsed_s: float, note: str, last: bool = False) -> None:
        rate = (self.done - self.found) / elapsed_s if elapsed_s > 0 else 0.0
        share = self.done / self.total if self.total else 1.0
        bar = ("█" * round(20 * min(share, 1))).ljust(20, "░")
        left = f"ETA {duration((self.total - self.done) / rate)}" if rate and not last else f"in {duration(elapsed_s)}"
        line = f"{self.title:<26} {bar} {self.done:>7,}/{self.total:,} {self.unit}  {rate:,.1f}/s  {left}  {note}"
        end = "\n" if last or not self.tty else "\r"
        sys.stderr.write(f"\x1b[2K{line}{end}" if self.tty else line.rstrip() + "\n")
        sys.stderr.flush()
