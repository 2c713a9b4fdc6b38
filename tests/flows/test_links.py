"""`build-dpo-set` over a web of this machine: 300 links, four in ten bad; killed three times, then typed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.scenes.grammar import captions
from lightgen.storage.store import UNAUDITED, open_or_create, open_store
from lightgen.vlm.base import REHEARSED
from lightgen.vlm.tiny import tiny_vlm
from tests.crash.invariants import violations
from tests.flows.conftest import ROOT
from tests.flows.test_serve import typed
from tests.servers.bad_web import BadWeb

RECIPE = "tests/recipes/links.yaml"
LINKS, GOOD = 300, 180
BAD = (
    "/missing.jpg", "/gone.jpg", "/page.jpg", "/cut.jpg", "/empty.jpg", "/huge.png", "/a.svg", "/many.gif",
    "/bomb.png", "/line.png", "/noai.jpg", "/denied/a.jpg", "/loop", "/hops/4", "/status/403", "/not-gzip/a.jpg",
    "/to/a.jpg?place=http://ELSEWHERE/secret.jpg", "/to/b.jpg?place=http://169.254.169.254/latest/meta-data/",
)  # fmt: skip
UNASKED = (
    "http://127.0.0.1/a.jpg", "http://2130706433/a.jpg", "http://[::ffff:169.254.169.254]/a.jpg", "http://10.1.2.3/a.jpg",
    "ftp://example.com/a.jpg", "file:///etc/passwd", "http://user:secret@example.com/a.jpg",
)  # fmt: skip
KINDS = ("links", "images", "scores", "kept", "prompts", "pairs", "audit", "pair_features")

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def web():
    """The web that is asked, and a private server that no link may reach."""
    with BadWeb() as private, BadWeb(elsewhere=private.address) as server:
        server.private = private
        yield server


@pytest.fixture(scope="module")
def overrides(web, tmp_path_factory):
    """What the recipe leaves to be given: a table of links in LAION's columns, the address of the web, a judge."""
    folder = tmp_path_factory.mktemp("links")
    texts = [text for task in ("colors", "two_object", "position") for text in captions("preference", task)][:LINKS]
    urls = [web.url(f"/picture/{place}.jpg") for place in range(GOOD)]
    urls += [web.url(path) + f"{'&' if '?' in path else '?'}n={turn}" for turn in range(6) for path in BAD]
    urls += list(UNASKED)
    urls += [web.url(f"/picture/{place}.jpg") for place in range(GOOD, GOOD + LINKS - len(urls))]
    aesthetic = [6.0 if place >= GOOD + 113 else 6.6 + place / 1000 for place in range(LINKS)]
    columns = {
        "URL": urls, "TEXT": texts, "WIDTH": [96.0] * LINKS, "HEIGHT": [72.0] * LINKS, "similarity": [0.3] * LINKS,
        "punsafe": [0.01] * LINKS, "pwatermark": [0.1] * LINKS, "AESTHETIC_SCORE": pa.array(aesthetic, pa.float32()),
        "hash": range(-LINKS, 0),
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / "laion.parquet")
    judge = str(tiny_vlm(folder / "judge", answers=REHEARSED))
    return {
        "links.source.corpora.0.path": str(folder / "laion.parquet"), "links.fetch.allow_private": [web.address],
        "links.source.allow_private": [web.address], "pair.judge.model.model": judge,
    }  # fmt: skip


def command(store, overrides):
    settings = [word for key, value in overrides.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    return [
        sys.executable,
        "-m",
        "lightgen.cli",
        "run",
        RECIPE,
        "--store",
        str(store),
        "--until",
        "encode-pairs",
        *settings,
    ]


def start(store, overrides):
    with (Path(store).parent / "log").open("ab") as log:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command(store, overrides), cwd=ROOT, env=env, stdout=log, stderr=log)


def log_of(store):
    return (Path(store).parent / "log").read_text()[-4000:]


@pytest.fixture(scope="module")
def uninterrupted(overrides, tmp_path_factory):
    store = tmp_path_factory.mktemp("whole") / "store"
    assert start(store, overrides).wait(400) == 0, log_of(store)
    return store


def fingerprints(store):
    opened = open_or_create(str(store))
    return {kind: sorted({entry.fingerprint for entry in opened.log(kind)}) for kind in KINDS}


def test_every_link_is_a_picture_or_says_why_it_is_none(web, uninterrupted):
    store = open_store(str(uninterrupted))
    links, images = store.open("links"), store.open("images@links")
    assert links.rows + sum(links.reject_reasons.values()) == LINKS
    assert links.reject_reasons == {"url_private": 4, "url_scheme": 2, "url_credentials": 1, "low_aesthetic": 7 - 2}
    assert images.rows + sum(images.reject_reasons.values()) == links.rows
    assert images.rows == GOOD
    assert sum(images.reject_reasons.values()) == 6 * len(BAD)
    assert len(images.reject_reasons) > 10


def test_nothing_that_is_private_was_reached(web, uninterrupted):
    assert web.hits["/picture/1.jpg"], "the web itself was asked"
    assert web.private.hits == Counter()


def test_pairs_are_photographs_over_samples_and_the_audit_published_them(uninterrupted):
    store = open_store(str(uninterrupted))
    pairs, images, audit = store.open("pairs"), store.open("images@links"), store.open("audit")
    rows = pairs.table().to_pylist()
    assert rows
    assert {row["winner_generator"] for row in rows} == {"links"}
    assert {row["winner_id"] for row in rows} <= set(images.table(columns=["id"])["id"].to_pylist())
    assert {row["host"] for row in rows} == {"127.0.0.1"}
    assert all(row["margin"] > 0 for row in rows)
    assert pairs.ref == store.open("pairs@held-out").ref == store.open(f"pairs@{UNAUDITED}").ref
    assert audit.parent("pairs") == pairs.ref


def kill_in_fetch(web, store, overrides, after):
    """The server itself kills the run when so many pictures were asked for."""
    process = start(store, overrides)
    web.kill_after, web.victim = after, process.pid
    try:
        process.wait(300)
    finally:
        web.victim = None
    assert process.returncode == -signal.SIGKILL, log_of(store)


def kill_in_score(store, overrides):
    """As soon as the judge has finished a batch of a shard that is not sealed."""
    process, give_up = start(store, overrides), time.monotonic() + 300
    while not list(Path(store).glob("v/scores/*/partial/*/*")):
        assert process.poll() is None, log_of(store)
        assert time.monotonic() < give_up
        time.sleep(0.01)
    process.kill()
    process.wait(30)


def test_killed_three_times_then_typed_it_completes_with_the_same_pairs(
    web, overrides, uninterrupted, served, tmp_path
):
    store = tmp_path / "store"
    before = web.hits.total()
    kill_in_fetch(web, store, overrides, 30)
    kill_in_fetch(web, store, overrides, 60)
    kill_in_score(store, overrides)
    parameters = {"recipe": RECIPE, "store": str(store), "overrides": json.dumps(overrides)}
    _, state, said = typed(served, "build-dpo-set", **parameters)
    assert state["type"] == "COMPLETED", said
    assert web.hits.total() - before < 1.5 * LINKS, "what was fetched before a kill was fetched again"
    here, there = fingerprints(store), fingerprints(uninterrupted)
    assert {kind for kind in KINDS if here[kind] != there[kind]} <= {"pair_features"}  # which comes after the pairs
    assert violations(store) == []
