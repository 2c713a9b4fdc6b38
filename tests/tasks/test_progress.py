"""Progress goes to the terminal always and to Prefect seldom; a lost server stops nothing."""

import itertools
import logging

import pytest
from PIL import Image
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from lightgen.progress import duration
from tasks.progress import RunProgress


class Bar:
    """A terminal that remembers."""

    def __init__(self):
        self.calls = []

    def start(self, title, total, unit, done=0):
        self.calls.append(("start", title, total, unit))

    def advance(self, count, note=""):
        self.calls.append(("advance", count, note))

    def picture(self, path):
        self.calls.append(("picture", path.name))

    def finish(self):
        self.calls.append(("finish",))


@pytest.mark.filterwarnings("ignore:Artifact creation outside")
def test_stage_goes_on_without_a_server_and_tries_seldom(caplog, tmp_path, closed_port):
    bar, now = Bar(), itertools.count()
    nobody = {PREFECT_API_URL: f"http://127.0.0.1:{closed_port}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nobody), caplog.at_level(logging.WARNING, "tasks.reporting"):
        progress = RunProgress("encode-64px", bar, clock=lambda: next(now), every_s=2)
        progress.start("encode", 10, "rows")
        for _ in range(9):
            progress.advance(1, "loss 0.1")
        Image.new("RGB", (9, 7)).save(tmp_path / "samples.png")
        progress.picture(tmp_path / "samples.png")
        progress.finish()
    steps = [("advance", 1, "loss 0.1")] * 9
    assert bar.calls == [("start", "encode-64px", 10, "rows"), *steps, ("picture", "samples.png"), ("finish",)]
    failed = [record.getMessage() for record in caplog.records if record.name == "tasks.reporting"]
    assert len([line for line in failed if line.startswith("progress of encode-64px did not")]) == 2, "start and finish"
    assert "the run goes on" in caplog.text


def test_server_hears_at_most_every_two_seconds():
    sent, now = [], [0.0]
    progress = RunProgress("encode-64px", Bar(), clock=lambda: now[0])
    progress._send = lambda percent, described: (
        sent.append((now[0], percent, described)),
        setattr(progress, "sent", now[0]),
    )
    progress.start("encode", 100, "rows")
    for _ in range(20):
        now[0] += 0.5
        progress.advance(5)
    progress.finish()
    times = [at for at, _, _ in sent[:-1]]
    assert all(b - a >= 2 for a, b in itertools.pairwise(times))
    assert len(sent) == 7  # the start, five in ten seconds, the end
    assert sent[1][1] == 20.0
    assert sent[1][2] == "20 of 100 rows, 10.0/s, 0:08 left"


class Sent(RunProgress):
    """Remembers what would go to Prefect's server."""

    def __init__(self, clock):
        super().__init__("pretrain-32px", Bar(), clock=clock)
        self.said = []

    def _send(self, percent, description):
        self.sent = self.clock()
        self.said.append((percent, description))


def test_figures_stand_on_lines_of_their_own_and_stay_at_the_end():
    now = [0.0]
    progress = Sent(lambda: now[0])
    progress.start("train", 500, "steps")
    now[0] = 2.0
    progress.advance(20, "loss 0.1300, 1,180 img/s, 12 TFLOP/s, MFU 41%")
    assert progress.said[-1][1] == (
        "20 of 500 steps, 10.0/s, 0:48 left\n\n**loss 0.1300, 1,180 img/s,**\n\n**12 TFLOP/s, MFU 41%**"
    )
    progress.advance(480)
    progress.finish()
    assert progress.said[-1] == (
        100.0,
        "500 steps in 0:02\n\n**loss 0.1300, 1,180 img/s,**\n\n**12 TFLOP/s, MFU 41%**",
    )
    progress.start("train", 10, "steps")
    assert progress.said[-1] == (0.0, "10 steps to do"), "figures of the work before are gone"


@pytest.mark.parametrize("found", [0, 400])
def test_steps_found_done_after_a_restart_do_not_count_for_the_rate(found):
    now = [0.0]
    progress = Sent(lambda: now[0])
    progress.start("train", 500, "steps", done=found)
    now[0] = 10.0
    progress.advance(20)
    left = duration((500 - found - 20) / 2.0)
    assert progress.said[-1][1] == f"{found + 20} of 500 steps, 2.0/s, {left} left"
