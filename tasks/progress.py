"""Progress of a stage as a Prefect artifact, and in the terminal as well."""

import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from lightgen.pages.gallery import sheet_uri
from lightgen.progress import Progress, Terminal, duration
from tasks.reporting import forgiven

CARD, NO_BREAK = 36, "\u00a0"  # characters on a line


class RunProgress:
    """Feeds `terminal` and, at most every `every_s` seconds, the progress artifact of the current task run.

    `label` stands in place of the title that a stage gives: it also tells resolutions and uses apart.

    Losing touch with Prefect's server is no reason to stop or slow down hours of work: it is logged, the stage goes on,
    and no more than a twentieth of its time is spent on telling.
    """

    def __init__(
        self,
        label: str,
        terminal: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
        every_s: float = 2.0,
    ) -> None:
        self.label, self.terminal, self.clock, self.every_s = label, terminal or Terminal(), clock, every_s
        self.artifact: UUID | None = None
        self.unit, self.note, self.total, self.done = "", "", 0, 0
        self.began = self.sent = 0.0
        self.pause_s = every_s
        self.found = 0

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        """Begin work of `total` units; a stage may do so more than once."""
        self.terminal.start(self.label, total, unit, done)
        self.total, self.unit, self.note, self.done, self.found = total, unit, "", done, done
        self.began = self.clock()
        self._send(0.0, f"{total - done:,} {unit} to do")

    def advance(self, count: int, note: str = "") -> None:
        """`count` more units are done."""
        self.terminal.advance(count, note)
        self.done, self.note, now = self.done + count, note or self.note, self.clock()
        if now - self.sent >= self.pause_s:
            self._send(100.0 * min(self.done / max(self.total, 1), 1.0), self._described(now))

    def picture(self, path: Path) -> None:
        """Show a picture made on the way; a newer one takes its place."""
        self.terminal.picture(path)
        shown = f"![pictures]({sheet_uri(path.read_bytes())})\n\nat {self.done:,} of {self.total:,} {self.unit}"
        with forgiven(f"samples of {self.label}"):
            create_markdown_artifact(shown, key=f"{self.label}-samples", description=f"samples at {self.done:,}")

    def finish(self) -> None:
        """The work is over; the last figures stay to be read."""
        self.terminal.finish()
        self._send(100.0, f"{self.done:,} {self.unit} in {duration(self.clock() - self.began)}{self._noted()}")

    def _described(self, now: float) -> str:
        rate = (self.done - self.found) / max(now - self.began, 1e-9)
        going = f", {rate:,.1f}/s, {duration((self.total - self.done) / rate)} left" if rate else ""
        return f"{self.done:,} of {self.total:,} {self.unit}{going}{self._noted()}"

    def _noted(self) -> str:
        """Bold, on lines as short as Prefect's cards, which cut them off: the loss is what people look for."""
        whole = ", ".join(figure.replace(" ", NO_BREAK) for figure in self.note.split(", "))
        return "".join(f"\n\n**{line.replace(NO_BREAK, ' ')}**" for line in textwrap.wrap(whole, CARD))

    def _send(self, percent: float, description: str) -> None:
        began = self.clock()
        with forgiven(f"progress of {self.label}"):
            if self.artifact is None:
                self.artifact = create_progress_artifact(percent, key=f"{self.label}-progress", description=description)  # type: ignore[assignment]
            else:
                update_progress_artifact(self.artifact, percent, description=description)
        self.sent = self.clock()
        self.pause_s = max(self.every_s, 20 * (self.sent - began))
