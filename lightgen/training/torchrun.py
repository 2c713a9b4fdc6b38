"""Starts the processes of a run under torchrun, follows what they print, and ends all of them when it must."""

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightgen.engines.lifetime import terminate
from lightgen.engines.lines import refuse, refused, said
from lightgen.errors import LightgenError, StoreAccess, TrainingFailed
from lightgen.progress import Progress
from lightgen.training.launch import LaunchConfig

_log = logging.getLogger(__name__)

FAILED_MARK = " failed (exitcode: "  # torchrun's words for a process that ended badly
MAX_RESTARTS = 3  # times that torchrun starts all processes again after one died; each start resumes
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
        terminate(process)
        raise
    if status:
        raise TrainingFailed(
            f"training on {launch.size} processes ended with status {status}; start again, it goes on from its newest "
            "checkpoint. The last lines were:\n" + "\n".join(last)
        )


@contextmanager
def report_refusals() -> Iterator[None]:
    """Report an error that the user must correct to `run_processes`: until then no start can succeed."""
    try:
        yield
    except (TrainingFailed, StoreAccess):
        raise  # a lost process or server: the next start may succeed
    except LightgenError as error:
        refuse(error)
        raise


def child_env() -> dict[str, str]:
    """The environment of torchrun, in which every start has a key-value store of its own.

    In a shared one, processes that are started again read the addresses of dead ones and cannot connect.
    """
    return os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # noqa: TID251 - passed on, nothing is read


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
        if error := refused(text):
            raise error
        if what := said(text):
            verb, *values = what
            getattr(progress, verb)(*(map(Path, values) if verb == "picture" else values))
        elif text:
            before_report = list(last) if FAILED_MARK in text else before_report
            last.append(text)
            _log.info("%s", text)
    return before_report or list(last)
