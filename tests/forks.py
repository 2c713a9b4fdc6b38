"""Forks of the process of the tests, whatever other tests have started in it."""

import os
import traceback
from multiprocessing import get_context, util
from multiprocessing.context import ForkProcess

FORK = get_context("fork")  # its queues and barriers
LAST = -100  # of finalizers of multiprocessing, whose own are -5 and above


class Forked(ForkProcess):
    """A fork that ends with its own work: 0 where that came to its end, 1 with a traceback where it failed.

    Libraries of the parent register what is to be done at its end, such as to wait for threads that a fork does not
    have. Prefect's log fails there once any flow ran in the parent, and with it a fork whose work was done.
    """

    def run(self):
        code = 0
        try:
            super().run()
        except BaseException:  # noqa: BLE001 - whatever it is, its parent is told
            traceback.print_exc()
            code = 1
        util.Finalize(None, os._exit, args=(code,), exitpriority=LAST)
