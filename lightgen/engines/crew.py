"""Worker processes of this machine, one a device; they outlast a stage, and none outlasts its parent."""

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from lightgen.engines.devices import Device
from lightgen.engines.lifetime import terminate
from lightgen.errors import LightgenError
from lightgen.settings import worker_environment
from lightgen.work import Work

log = logging.getLogger(__name__)

LINES_KEPT = 30
CLOSE_S = 3.0
# As `multiprocessing` does when it spawns, but with an environment of its own from the first moment on, and without
# running the parent's main module again.
START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from lightgen.engines.child import main; main(sys.argv[2], int(sys.argv[3]))"
)


class Child:
    """One worker process. What it prints goes to `heard` line by line, and None once it has ended."""

    def __init__(self, device: Device, heard: "queue.Queue[tuple[Child, str | None]]") -> None:
        self.device, self.heard = device, heard
        self.given = self.version = ""
        self.last: deque[str] = deque(maxlen=LINES_KEPT)
        self.error: LightgenError | None = None
        arguments = [json.dumps([str(path) for path in sys.path]), device.name, str(os.getpid())]
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the parent alone, which takes its children down
            env=worker_environment(device.gpu, device.threads),
        )
        threading.Thread(target=self._listen, name=f"worker-{self.process.pid}", daemon=True).start()

    @property
    def name(self) -> str:
        """For messages and the board."""
        return f"worker {self.process.pid}"

    def give(self, work: Work) -> None:
        """Let it take part in `work`, after what it does now."""
        assert self.process.stdin is not None
        self.given = work.plan.version
        with suppress(BrokenPipeError):  # it has just died, and will be heard of
            self.process.stdin.write(work.dump() + "\n")
            self.process.stdin.flush()

    def close(self) -> None:
        """Let it end after what it does now."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.put((self, line.rstrip()))
        self.process.wait()
        self.heard.put((self, None))


class Crew:
    """One child a device, started when there is work for it; one that has died is started again for the next work."""

    def __init__(self) -> None:
        self.heard: queue.Queue[tuple[Child, str | None]] = queue.Queue()
        self.children: list[Child] = []

    def start(self, work: Work, devices: Sequence[Device]) -> list[Child]:
        """Give `work` to a child on each of `devices`, unless it has it; returns these."""
        self.children = [child for child in self.children if child.process.poll() is None]
        by_device = _Free(self.children)
        chosen = [by_device.take(device) or self._new(device) for device in devices]
        for child in chosen:
            if child.given != work.plan.version:
                child.give(work)
        return chosen

    @contextmanager
    def soon(self, work: Work, devices: Sequence[Device], after_s: float) -> Iterator[Callable[[], bool]]:
        """Start in `after_s` seconds, unless the context ends before; yields whether it has."""
        started = threading.Event()

        def start() -> None:
            self.start(work, devices)
            started.set()

        timer = threading.Timer(after_s, start)
        timer.start()
        try:
            yield started.is_set
        finally:
            timer.cancel()
            timer.join()

    def hear(self, patience_s: float) -> tuple[Child, str | None] | None:
        """The next line of any child; None comes with the child that has ended, or alone after `patience_s`."""
        try:
            return self.heard.get(timeout=patience_s)
        except queue.Empty:
            return None

    def close(self, grace_s: float = CLOSE_S) -> None:
        """End all children: those that are idle by themselves, the rest by force, for what they do is not needed."""
        for child in self.children:
            child.close()
        for child in self.children:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(grace_s)
            if child.process.poll() is None:
                terminate(child.process)
        self.children = []

    def _new(self, device: Device) -> Child:
        child = Child(device, self.heard)
        self.children.append(child)
        return child


class _Free:
    """Children that have no part in a work yet."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)

    def take(self, device: Device) -> Child | None:
        """One on `device`, if there is one."""
        found = next((child for child in self.children if child.device == device), None)
        if found is not None:
            self.children.remove(found)
        return found
