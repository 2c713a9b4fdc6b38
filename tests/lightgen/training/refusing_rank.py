"""A process of a run that finds a mistake of the user: `python -m ... JOB`; every start leaves a line."""

import sys
from pathlib import Path

from lightgen.errors import ConfigError
from lightgen.training.torchrun import report_refusals

if __name__ == "__main__":
    with report_refusals(), Path(sys.argv[1]).with_name("starts").open("a") as starts:
        starts.write("started\n")
        raise ConfigError("batch_size 7 cannot be cut:\nthe second line")
