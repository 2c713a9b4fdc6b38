"""Starts the processes of a run under torchrun, follows what they print, and takes all of them down when it must."""

import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightgen.engines.lifetime import take_down
from lightgen.engines.lines import refuse, refused, said
from lightgen.errors import LightgenError, StoreAccess, TrainingFailed
from lightgen.progress import Progress
from lightgen.training.launch import LaunchConfig

_log = logging.getLogger(__name__)

FAILED = " failed (exitcode: "  # torchrun's words for a process that ended badly
RESTARTS = 3  # times that torchrun starts all processes again after one died; each start resumes
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
        take_down(process)
        raise
    if status:
        raise TrainingFailed(
            f"training on {launch.size} processes ended with status {status}; start again, it goes on from its newest "
            "checkpoint. The last lines were:\n" + "\n".join(last)
        )


@contextmanager
def refusals_told() -> Iterator[None]:
    """Tell `run_processes` of an error that the user must mend, for which torchrun need not start everything again."""
    try:
        yield
    except (TrainingFailed, StoreAccess):
        raise  # a lost process or server: the next start may find it back
    except LightgenError as error:
        refuse(error)
        raise


def child_env() -> dict[str, str]:
    """The environment of torchrun: every start gets a key-value store of its own.

    With the shared one, processes started again after a death read the addresses of the dead and cannot connect.
    """
    return os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # noqa: TID251 - passed on, nothing is read


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
        if error := refused(text):
            raise error
        if what := said(text):
            verb, *values = what
            getattr(progress, verb)(*(map(Path, values) if verb == "picture" else values))
        elif text:
            told = list(last) if FAILED in text else told
            last.append(text)
            _log.info("%s", text)
    return told or list(last)
