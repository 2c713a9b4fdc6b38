"""Child processes end with their parents, and with all that they started."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

GRACE_S = 10.0


def exit_with_parent(parent: int, every_s: float = 1.0) -> None:
    """End this process when `parent` or its own parent is gone: orphans would hold the GPUs for nobody."""
    own = os.getppid()

    def watch() -> None:
        while os.getppid() == own and Path(f"/proc/{parent}").exists():
            time.sleep(every_s)
        os._exit(1)

    if Path("/proc").exists():
        threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()


def terminate(process: "subprocess.Popen[str]", grace_s: float = GRACE_S) -> None:
    """End the whole process group of a child that leads one: politely, then not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(grace_s)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
