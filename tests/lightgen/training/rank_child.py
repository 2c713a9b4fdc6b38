"""One process of a training run over features in memory, for tests: started by torchrun, it may kill itself.

Arguments: folder for checkpoints, strategy, accumulate, step at which rank 1 dies of SIGKILL in the first attempt (-1:
never), dropout. Rank 0 writes weights, average and log to `result.json`.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from lightgen.model.student import Student
from lightgen.settings import torchrun_place
from lightgen.training.data import Batch
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import Figures, MaskedDiffusion, Place
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.ranks import World, joined
from tests.lightgen.training.tiny_run import tiny_features, tiny_student

LOOP = LoopConfig(
    steps=9, optimizer=OptimizerConfig(lr=3e-3, warmup_steps=3), ema=0.9, log_every=3, checkpoint_every=2, threads=1,
    precision="fp32",
)  # fmt: skip


class Dies(MaskedDiffusion):
    """Kills rank 1 before a step, once."""

    def loss(self, student: Student, batch: Batch, place: Place) -> tuple[torch.Tensor, Figures]:
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if first and place.step == int(sys.argv[4]) and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(student, batch, place)


def main() -> None:
    """Train, and let the first process write down what came out."""
    folder, strategy, accumulate = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    place = torchrun_place()
    world = World(*place) if place else World()
    student = tiny_student(dropout=float(sys.argv[5]))
    objective = Dies(tiny_features(), batch_size=8, copies=2, seed=11)
    launch = LaunchConfig.model_validate({"strategy": strategy, "accumulate": accumulate})

    def go() -> None:
        run = train(student, objective, LOOP, seed=11, folder=folder, run_id="r", world=world, launch=launch)
        if world.leads:
            weights = {name: value.tolist() for name, value in run.student.state_dict().items()}
            average = {name: value.tolist() for name, value in run.average.state_dict().items()}
            (folder / "result.json").write_text(json.dumps({"model": weights, "ema": average, "rows": run.rows}))

    if world.size == 1:
        go()
    else:
        with joined(world, "cpu"):
            go()


if __name__ == "__main__":
    main()
