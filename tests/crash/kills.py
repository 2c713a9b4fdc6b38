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
