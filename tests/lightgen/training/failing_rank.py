"""A process of a run that fails, with a word on why, after some progress."""

import os
from pathlib import Path

from lightgen.engines.lines import PrintedProgress

if __name__ == "__main__":
    if os.environ["RANK"] == "0":
        shown = PrintedProgress(every_s=0.0)
        shown.start("train", 7, "steps")
        shown.advance(3, "loss 0.5")
        shown.picture(Path("grid.png"))
    raise SystemExit("the disk is full")
