"""A stage that trains, the whole way through torchrun: job file, processes, their last checkpoint taken up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lightgen.errors import TrainingFailed
from lightgen.progress import SILENT
from lightgen.stages.align import STAGE, align, prepare
from lightgen.training import job, torchrun
from lightgen.training.job import TrainingJob, train_to_output
from lightgen.training.launch import LaunchConfig
from tests.lightgen.stages.test_align import LOOP, align_config

ROOT = Path(__file__).parents[3]
TWO = LaunchConfig(processes=2)
EXACT = LOOP.model_copy(update={"steps": 3, "precision": "fp32"})


def test_dpo_in_two_processes_is_dpo_in_one(chain, encoded, sample, tmp_path) -> None:
    config = align_config(sample, loop=EXACT, launch=TWO)
    many = chain.store.open(align(chain.checkpoint, encoded, chain.words(encoded), config, chain.context(seed=3)))
    assert json.loads(many.file("speed.json").read_text())["processes"] == 2
    run = TrainingJob(
        stage=STAGE.name, store=chain.store.uri, parents=many.parents, config=config.model_dump(mode="json"), seed=3,
        folder=tmp_path, run_id="r", starter=0, device="cpu",
    )  # fmt: skip
    alone = train_to_output(replace(prepare(run, chain.store, "cpu"), launch=LaunchConfig()), run, SILENT)
    logs = [text.decode().splitlines() for text in (many.file("log.jsonl").read_bytes(), alone.extras["log.jsonl"])]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in logs]
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.long
def test_null_control_ranks_that_wait_for_what_dpo_does_not_train_fail(chain, encoded, sample, monkeypatch) -> None:
    monkeypatch.setattr(job, "RANK_MODULE", "tests.lightgen.training.faulty_process")
    monkeypatch.setattr(torchrun, "MAX_RESTARTS", 0)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = align_config(sample, loop=EXACT, launch=TWO)
    with pytest.raises(TrainingFailed, match="did not receive grad for rank"):
        align(chain.checkpoint, encoded, chain.words(encoded), config, chain.context(seed=4))
