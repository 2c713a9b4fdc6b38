"""A process of a run that fails, with a word on why, after some progress."""

import os
import sys
import time
from pathlib import Path

from lightgen.engines.lines import PrintedProgress

if __name__ == "__main__":
    said = Path(sys.argv[1]).with_name("said")
    if os.environ["RANK"] == "0":
        shown = PrintedProgress(every_s=0.0)
        shown.start("train", 7, "steps")
        shown.advance(3, "loss 0.5")
        shown.picture(Path("grid.png"))
        said.touch()
    give_up = time.monotonic() + 60
    while not said.exists() and time.monotonic() < give_up:  # torchrun ends all others as soon as one has failed
        time.sleep(0.01)
    raise SystemExit("the disk is full")
