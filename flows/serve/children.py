"""Processes that a command starts and that never outlive it."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform == "linux"


def spawn(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, output: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` with `env` added to ours; its output goes to the file `output`, or to our terminal.

    On Linux the kernel stops it when we die, however we die; a session of its own keeps Ctrl-C for us, so that we stop
    children in the right order. Call it from the main thread: the kernel watches the thread that spawned.
    """
    sink = output.open("ab") if output else None
    try:
        return subprocess.Popen(
            command,
            env={**os.environ, **env},  # noqa: TID251 - a child inherits the environment; nothing is read from it here
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT if sink else None,
            start_new_session=LINUX,
            preexec_fn=_die_with_parent if LINUX else None,
        )
    finally:
        if sink:
            sink.close()


def adopt_orphans() -> None:
    """Make orphaned descendants our own children, so that `stop` finds flow runs whose worker is gone."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def stop(processes: Sequence[psutil.Process], patience_s: float = 10.0) -> None:
    """End `processes` and all that they started: a polite signal, then, after `patience_s`, the other one."""
    family = {member.pid: member for process in processes for member in _family(process)}
    _signal(family.values(), signal.SIGTERM)
    _, alive = psutil.wait_procs(list(family.values()), timeout=patience_s)
    _signal(alive, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)


def stop_all(keep_till_last: Callable[[Sequence[str]], bool], patience_s: float = 10.0) -> None:
    """End all descendants, adopted ones included; those whose command line `keep_till_last` approves go last."""
    stop([child for child in psutil.Process().children() if not keep_till_last(_command(child))], patience_s)
    stop(psutil.Process().children(), patience_s)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
