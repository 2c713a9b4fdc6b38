"""One process of a tiny training run, started by torchrun: `python -m ... JOB`, a JSON file of settings.

Rank 0 writes what came out to `result.json` beside the job.
"""

import json
import os
import sys
from pathlib import Path

from lightgen.settings import torchrun_place
from lightgen.training.ranks import World, process_group
from tests.lightgen.training.rank_jobs import TinyRun, train_tiny


def main() -> None:
    """Train, and let the first process write down what came out."""
    job = Path(sys.argv[1])
    settings = json.loads(job.read_text())
    run = TinyRun(**settings | {"folder": Path(settings["folder"]), "dies_at": tuple(settings["dies_at"])})
    place = torchrun_place()
    assert place is not None
    with process_group(World(*place), "cpu") as world:
        result = train_tiny(world, run, start=int(os.environ["TORCHELASTIC_RESTART_COUNT"]))
    if world.is_main:
        job.with_name("result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
