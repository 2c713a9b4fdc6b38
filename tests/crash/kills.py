"""Real SIGKILLs at seeded moments: a process dies at its n-th operation on the store, whatever the machine is doing."""

import os
import signal

from lightgen.storage import local

OPERATIONS = {"open", "fsync", "link", "unlink", "mkdir", "rmdir"}


class DiesAt:
    """`os` of a process that is killed before its n-th operation on the disk."""

    def __init__(self, n):
        self.left = n

    def __getattr__(self, name):
        if name in OPERATIONS:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
        return getattr(os, name)


class DiesBeyond:
    """`os` of a command that is killed with its process group some operations after so many versions have a file.

    `plan.json` says that they were begun, so a stage is at work when it dies; `manifest.json` that they are sealed.
    """

    def __init__(self, root, file, versions, later):
        self.root, self.file, self.versions, self.left = root, file, versions, later

    def __getattr__(self, name):
        if name in OPERATIONS and len(list(self.root.glob(f"v/*/*/{self.file}"))) >= self.versions:
            if self.left == 0:
                os.killpg(os.getpid(), signal.SIGKILL)
            self.left -= 1
        return getattr(os, name)


# A Python program: root, file, versions, later and a module whose `main` is called with the rest of the arguments.
COMMAND = """
import importlib, sys
from pathlib import Path
from lightgen.storage import local
from tests.crash.kills import DiesBeyond

root, file, versions, later, module = sys.argv[1:6]
sys.argv[1:] = sys.argv[6:]
main = importlib.import_module(module).main
local.os = DiesBeyond(Path(root), file, int(versions), int(later))
main()
"""


def mortal(n, work, *arguments):
    """For a process of its own: `work`, killed at operation `n`."""
    local.os = DiesAt(n)
    work(*arguments)


def operations_of(work, *arguments):
    """How many operations on the disk `work` takes, done here."""
    counter = DiesAt(-1)
    real, local.os = local.os, counter
    try:
        work(*arguments)
    finally:
        local.os = real
    return -1 - counter.left
