"""Starts the processes of a run under torchrun, follows what they print, and takes all of them down when it must."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lightgen import errors
from lightgen.errors import LightgenError, StoreAccess, TrainingFailed
from lightgen.progress import Progress
from lightgen.training.launch import LaunchConfig

_log = logging.getLogger(__name__)

MARK = "@progress "
REFUSED = "@refused "
FAILED = " failed (exitcode: "  # torchrun's words for a process that ended badly
RESTARTS = 3  # times that torchrun starts all processes again after one died; each start resumes
GRACE_S = 10.0
LINES_KEPT = 30


def run_processes(module: str, job: Path, launch: LaunchConfig, run_id: str, progress: Progress) -> None:
    """Run `python -m module job` in every process of `launch` until all have ended.

    Whatever ends this call early (Ctrl-C, a cancelled flow run) ends them too. Raises TrainingFailed with their last
    lines where they fail, and at once what a process found that another start would find again (`refusals_told`).
    """
    command = [sys.executable, "-m", "torch.distributed.run", *_rendezvous(launch, run_id)]
    command += ["--nproc-per-node", str(launch.processes), "--max-restarts", str(RESTARTS), "-m", module, str(job)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=child_env()
    )
    try:
        last = _follow(process, progress)
        status = process.wait()
    except BaseException:
        _take_down(process)
        raise
    if status:
        raise TrainingFailed(
            f"training on {launch.size} processes ended with status {status}; start again, it goes on from its newest "
            "checkpoint. The last lines were:\n" + "\n".join(last)
        )


class Printed:
    """Progress of the first process, as lines that `run_processes` understands."""

    def __init__(self, every_s: float = 0.5, write: Callable[[str], object] = print) -> None:
        self.every_s, self.write = every_s, write
        self.count, self.sent = 0, 0.0

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self._say("start", title, total, unit, done)

    def advance(self, count: int, note: str = "") -> None:
        self.count += count
        if time.monotonic() - self.sent >= self.every_s:
            self._flush(note)

    def picture(self, path: Path) -> None:
        self._say("picture", str(path))

    def finish(self) -> None:
        self._flush("")
        self._say("finish")

    def _flush(self, note: str) -> None:
        self._say("advance", self.count, note)
        self.count, self.sent = 0, time.monotonic()

    def _say(self, verb: str, *values: object) -> None:
        _tell(MARK, verb, *values, write=self.write)


@contextmanager
def refusals_told() -> Iterator[None]:
    """Tell `run_processes` of an error that the user must mend, for which torchrun need not start everything again."""
    try:
        yield
    except (TrainingFailed, StoreAccess):
        raise  # a lost process or server: the next start may find it back
    except LightgenError as error:
        _tell(REFUSED, type(error).__name__, str(error))
        raise


def child_env() -> dict[str, str]:
    """The environment of torchrun: every start gets a key-value store of its own.

    With the shared one, processes started again after a death read the addresses of the dead and cannot connect.
    """
    return os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # noqa: TID251 - passed on, nothing is read


def _tell(mark: str, *values: object, write: Callable[[str], object] = print) -> None:
    # A leading line break: another process may have left a line open.
    write(f"\n{mark}{json.dumps(values)}")
    sys.stdout.flush()


def die_with(parent: int, every_s: float = 1.0) -> None:
    """End this process when `parent` or its own parent is gone: orphans would hold the GPUs for nobody."""
    own = os.getppid()

    def watch() -> None:
        while os.getppid() == own and Path(f"/proc/{parent}").exists():
            time.sleep(every_s)
        os._exit(1)

    if Path("/proc").exists():
        threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def _rendezvous(launch: LaunchConfig, run_id: str) -> list[str]:
    if launch.rendezvous is None:
        return ["--standalone"]
    place = ["--rdzv-backend", "c10d", "--rdzv-endpoint", launch.rendezvous, "--rdzv-id", run_id]
    return ["--nnodes", str(launch.nodes), *place]


def _follow(process: "subprocess.Popen[str]", progress: Progress) -> list[str]:
    """Feed `progress` and the log; returns the last lines before torchrun itself began to complain."""
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=LINES_KEPT)
    told: list[str] = []
    for line in process.stdout:
        text = line.rstrip()
        if text.startswith(REFUSED):
            name, message = json.loads(text.removeprefix(REFUSED))
            raise getattr(errors, name)(message)
        if text.startswith(MARK):
            verb, *values = json.loads(text.removeprefix(MARK))
            getattr(progress, verb)(*(map(Path, values) if verb == "picture" else values))
        elif text:
            told = list(last) if FAILED in text else told
            last.append(text)
            _log.info("%s", text)
    return told or list(last)


def _take_down(process: "subprocess.Popen[str]") -> None:
    """The whole process group: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
