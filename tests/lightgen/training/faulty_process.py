"""A process of a run whose ranks wait for parameters that the objective does not train: `python -m ... JOB`.

`monkeypatch.setattr(job, "RANK_MODULE", "tests.lightgen.training.faulty_process")` has every run of torchrun use it.
"""

import sys
from pathlib import Path

from lightgen.training.job import run_rank
from tests.lightgen.training.rank_jobs import nothing_frozen

if __name__ == "__main__":
    with nothing_frozen():
        run_rank(Path(sys.argv[1]))
