"""Starts the processes of a run under torchrun, follows what they print, and ends all of them when it must."""

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

PROGRESS_MARK = "@progress "
REFUSAL_MARK = "@refused "
FAILED_MARK = " failed (exitcode: "  # torchrun's words for a process that ended badly
MAX_RESTARTS = 3  # times that torchrun starts all processes again after one died; each start resumes
GRACE_S = 10.0  # between SIGTERM and SIGKILL
LINES_KEPT = 30


def run_processes(module: str, job: Path, launch: LaunchConfig, run_id: str, progress: Progress) -> None:
    """Run `python -m module job` in every process of `launch` until all have ended.

    Whatever ends this call early (Ctrl-C, a cancelled flow run) ends the processes too. Raises TrainingFailed with
    their last lines if they fail. An error that another start would meet again is raised at once, as it was raised in
    the process (`report_refusals`).
    """
    command = [sys.executable, "-m", "torch.distributed.run", *_rendezvous(launch, run_id)]
    command += ["--nproc-per-node", str(launch.processes), "--max-restarts", str(MAX_RESTARTS), "-m", module, str(job)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=child_env()
    )
    try:
        last = _follow(process, progress)
        status = process.wait()
    except BaseException:
        _terminate(process)
        raise
    if status:
        raise TrainingFailed(
            f"training on {launch.size} processes ended with status {status}; start again, it goes on from its newest "
            "checkpoint. The last lines were:\n" + "\n".join(last)
        )


class PrintedProgress:
    """Progress of rank 0, printed as lines that `run_processes` reads."""

    def __init__(self, every_s: float = 0.5, write: Callable[[str], object] = print) -> None:
        self.every_s, self.write = every_s, write
        self.count, self.sent_s = 0, 0.0

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self._print("start", title, total, unit, done)

    def advance(self, count: int, note: str = "") -> None:
        self.count += count
        if time.monotonic() - self.sent_s >= self.every_s:
            self._flush(note)

    def picture(self, path: Path) -> None:
        self._print("picture", str(path))

    def finish(self) -> None:
        self._flush("")
        self._print("finish")

    def _flush(self, note: str) -> None:
        self._print("advance", self.count, note)
        self.count, self.sent_s = 0, time.monotonic()

    def _print(self, verb: str, *values: object) -> None:
        _print_message(PROGRESS_MARK, verb, *values, write=self.write)


@contextmanager
def report_refusals() -> Iterator[None]:
    """Report an error that the user must correct to `run_processes`: until then no start can succeed."""
    try:
        yield
    except (TrainingFailed, StoreAccess):
        raise  # a lost process or server: the next start may succeed
    except LightgenError as error:
        _print_message(REFUSAL_MARK, type(error).__name__, str(error))
        raise


def child_env() -> dict[str, str]:
    """The environment of torchrun, in which every start has a key-value store of its own.

    In a shared one, processes that are started again read the addresses of dead ones and cannot connect.
    """
    return os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # noqa: TID251 - passed on, nothing is read


def _print_message(mark: str, *values: object, write: Callable[[str], object] = print) -> None:
    # A leading line break: another process may have left a line open.
    write(f"\n{mark}{json.dumps(values)}")
    sys.stdout.flush()


def exit_with_parent(parent: int, every_s: float = 1.0) -> None:
    """Exit once process `parent` or this process's own parent is gone: an orphan would hold a GPU for nobody."""
    own = os.getppid()

    def watch() -> None:
        while os.getppid() == own and Path(f"/proc/{parent}").exists():
            time.sleep(every_s)
        os._exit(1)

    if Path("/proc").exists():
        threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()


def _rendezvous(launch: LaunchConfig, run_id: str) -> list[str]:
    if launch.rendezvous is None:
        return ["--standalone"]
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", launch.rendezvous, "--rdzv-id", run_id]
    return ["--nnodes", str(launch.nodes), *meeting]


def _follow(process: "subprocess.Popen[str]", progress: Progress) -> list[str]:
    """Pass what is printed on to `progress` and the log; return the last lines before torchrun's own report."""
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=LINES_KEPT)
    before_report: list[str] = []
    for line in process.stdout:
        text = line.rstrip()
        if text.startswith(REFUSAL_MARK):
            name, message = json.loads(text.removeprefix(REFUSAL_MARK))
            raise getattr(errors, name)(message)
        if text.startswith(PROGRESS_MARK):
            verb, *values = json.loads(text.removeprefix(PROGRESS_MARK))
            getattr(progress, verb)(*(map(Path, values) if verb == "picture" else values))
        elif text:
            before_report = list(last) if FAILED_MARK in text else before_report
            last.append(text)
            _log.info("%s", text)
    return before_report or list(last)


def _terminate(process: "subprocess.Popen[str]") -> None:
    """End the whole process group: SIGTERM, then SIGKILL for what is left."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(GRACE_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
