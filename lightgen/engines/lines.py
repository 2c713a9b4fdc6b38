"""What a child process tells its parent: marked lines on its standard output, between all else that it prints."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lightgen import errors
from lightgen.errors import LightgenError

PROGRESS_MARK = "@progress "
REFUSAL_MARK = "@refused "


class PrintedProgress:
    """Progress as lines, which the parent reads by `said`; ticks are gathered for `every_s` seconds."""

    def __init__(self, every_s: float = 0.5, write: Callable[[str], object] = print) -> None:
        self.every_s, self.write = every_s, write
        self.count, self.sent = 0, 0.0

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        """See `Progress.start`."""
        self.say("start", title, total, unit, done)

    def advance(self, count: int, note: str = "") -> None:
        """See `Progress.advance`."""
        self.count += count
        if time.monotonic() - self.sent >= self.every_s:
            self._flush(note)

    def picture(self, path: Path) -> None:
        """See `Progress.picture`."""
        self.say("picture", str(path))

    def finish(self) -> None:
        """See `Progress.finish`."""
        self._flush("")
        self.say("finish")

    def say(self, verb: str, *values: object) -> None:
        """One line: a verb and its values."""
        _tell(PROGRESS_MARK, verb, *values, write=self.write)

    def _flush(self, note: str) -> None:
        self.say("advance", self.count, note)
        self.count, self.sent = 0, time.monotonic()


def refuse(error: LightgenError) -> None:
    """Tell of an error that is the user's."""
    _tell(REFUSAL_MARK, type(error).__name__, str(error))


def said(line: str) -> list | None:
    """Verb and values of a line that `PrintedProgress` wrote; None for any other."""
    return json.loads(line.removeprefix(PROGRESS_MARK)) if line.startswith(PROGRESS_MARK) else None


def refused(line: str) -> LightgenError | None:
    """The error of a line that `refuse` wrote; None for any other."""
    if not line.startswith(REFUSAL_MARK):
        return None
    name, message = json.loads(line.removeprefix(REFUSAL_MARK))
    return getattr(errors, name)(message)


def _tell(mark: str, *values: object, write: Callable[[str], object] = print) -> None:
    # A leading line break: another process may have left a line open.
    write(f"\n{mark}{json.dumps(values)}")
    sys.stdout.flush()
