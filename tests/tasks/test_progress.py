"""Progress goes to the terminal always and to Prefect seldom; a lost server stops nothing."""

import itertools
import logging

from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.server import free_port
from tasks.progress import RunProgress


class Bar:
    """A terminal that remembers."""

    def __init__(self):
        self.calls = []

    def start(self, title, total, unit):
        self.calls.append(("start", title, total, unit))

    def advance(self, count, note=""):
        self.calls.append(("advance", count, note))

    def finish(self):
        self.calls.append(("finish",))


def test_stage_goes_on_without_a_server(caplog):
    bar, now = Bar(), iter(range(0, 1000, 1))
    nobody = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nobody), caplog.at_level(logging.WARNING, "tasks.progress"):
        progress = RunProgress("encode-64px", bar, clock=lambda: next(now), every_s=1000)
        progress.start("encode", 10, "rows")
        progress.advance(4, "loss 0.1")
        progress.finish()
    assert bar.calls == [("start", "encode-64px", 10, "rows"), ("advance", 4, "loss 0.1"), ("finish",)]
    assert "the stage goes on" in caplog.text


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
    assert sent[1][2] == "encode-64px: 20 of 100 rows, 10.0/s, 0:08 left"
