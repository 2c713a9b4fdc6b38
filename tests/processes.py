"""Whether processes of others have ended."""

import psutil


def ended(process: psutil.Process) -> bool:
    """One whose parent died first waits as a zombie for the init process, which not every container has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
