"""A process of a run that waits for ever: `python -m ... FOLDER PARENT`; leaves its number in the folder."""

import os
import sys
import time
from pathlib import Path

from lightgen.engines.lifetime import exit_with_parent

if __name__ == "__main__":
    job = Path(sys.argv[1])
    exit_with_parent(int(job.read_text()), every_s=0.2)
    (job.parent / f"rank-{os.environ['RANK']}").write_text(str(os.getpid()))
    time.sleep(600)
