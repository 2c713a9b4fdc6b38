"""Stage `fetch`: kills cost a batch, retries and grown corpora ask for what is missing, servers are treated well."""

import hashlib
import json
import logging
import multiprocessing
import signal

import pytest

from lightgen.config import problems_of
from lightgen.errors import ConfigError, TooManyRejects
from lightgen.fetch.loopback import picture
from lightgen.operations.refetch import refetch
from lightgen.stages.fetch import FetchConfig, fetch
from lightgen.storage.store import open_or_create, open_store
from lightgen.storage.verify import verify
from lightgen.work import Context
from schemas.images import FETCHED
from tests.lightgen.fetch.given import fetching, link, reasons, sealed_links
from tests.servers.bad_web import BadWeb

LAX = {"max_reject_fraction": 1.0}
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def server():
    with BadWeb() as server:
        yield server


@pytest.fixture
def context(tmp_path):
    return Context(open_or_create(str(tmp_path / "store")), seed=1)


def pictures(server, count, first=0):
    return [server.url(f"/picture/{n}.jpg") for n in range(first, first + count)]


def asked(server):
    """Pictures that were asked for, with how often."""
    return {path: count for path, count in server.hits.items() if path.startswith("/picture/")}


def test_a_row_says_where_its_picture_comes_from(context, server):
    given = link(server.url("/picture/1.png"), "a caption", source="laion", licence="CC-BY-4.0")
    version = context.store.open(fetch(sealed_links(context.store, [given]), fetching(server), context))
    [row] = version.table().to_pylist()
    assert version.table().schema.names == FETCHED.names
    data = picture(1, "png", server.side_px, "")
    expected = {
        "id": given["id"], "prompt_id": given["caption_id"], "caption": "a caption", "index": 0, "seed": 0,
        "generator": "fetch", "width": 96, "height": 72, "format": "png",
        "image_sha256": hashlib.sha256(data).hexdigest(), "url": given["url"], "host": "127.0.0.1", "source": "laion",
        "licence": "CC-BY-4.0",
    }  # fmt: skip
    assert row == expected
    assert version.member(row["id"], "png") == data
    assert json.loads(version.member(row["id"], "json")) == {**expected, "snapshot": "2026-11-28"}


def test_a_reject_keeps_its_link_and_what_went_wrong(context, server):
    given = link(server.url("/gone.jpg"), aesthetic=6.5)
    version = context.store.open(fetch(sealed_links(context.store, [given]), fetching(server), context))
    [row] = version.rejects().to_pylist()
    assert (row["id"], row["reason"], row["detail"]) == (given["id"], "http_410", "410 Gone")
    assert json.loads(row["row"]) == given


def test_one_address_of_many_links_is_asked_for_once(context, server):
    url = server.url("/picture/3.jpg")
    links = sealed_links(context.store, [link(url, f"caption {n}") for n in range(5)])
    assert fetch(links, fetching(server), context).rows == 5
    assert server.hits["/picture/3.jpg"] == 1


def test_a_square_is_cut_where_asked_and_encoded_again(context, server):
    links = sealed_links(context.store, pictures(server, 2))
    version = context.store.open(fetch(links, fetching(server, crop_px=32, format="webp", quality=80), context))
    assert {(row["width"], row["height"], row["format"]) for row in version.table().to_pylist()} == {(32, 32, "webp")}
    with pytest.raises(ValueError, match="snapshot"):
        FetchConfig(snapshot="yesterday")


def test_a_file_of_another_digest_is_refused_as_changed(context, server):
    right = hashlib.sha256(picture(1, "jpg", server.side_px, "")).hexdigest()
    links = [
        link(server.url("/picture/1.jpg"), sha256=right),
        link(server.url("/picture/2.jpg"), sha256=right),
        link(server.url("/picture/3.jpg")),
    ]
    config = fetching(server)
    first = fetch(sealed_links(context.store, links), config, context)
    assert list(reasons(context.store, first).values()) == [None, None, "changed"]
    # A grown corpus: the verdict is known, but another expected digest makes another verdict.
    other = hashlib.sha256(picture(2, "jpg", server.side_px, "")).hexdigest()
    more = [*links, link(server.url("/picture/2.jpg"), "again", sha256=other), *pictures(server, 1, first=9)]
    again = fetch(sealed_links(context.store, more), config, context)
    assert context.store.open(again).reject_reasons == {"changed": 1}
    assert asked(server) == {f"/picture/{n}.jpg": 1 + (n == 2) for n in (1, 2, 3, 9)}


# --- kills ------------------------------------------------------------------------------------------------------------


def fetch_in_child(root, links, config):
    fetch(links, config, Context(open_store(root), seed=1))


def killed(server, root, links, config, after):
    """A process that fetches, killed when so many pictures were asked for."""
    process = SPAWN.Process(target=fetch_in_child, args=(root, links, config))
    server.kill_after = after
    process.start()
    server.victim = process.pid
    process.join()
    server.victim = None
    return process.exitcode


def test_three_kills_cost_a_batch_each_and_the_end_is_the_same(tmp_path, server):
    urls = [*pictures(server, 120), server.url("/missing.jpg"), server.url("/cut.jpg")]
    config = fetching(server, per_host=4, concurrency=4, journal=8)
    store = open_or_create(str(tmp_path / "store"))
    links = sealed_links(store, urls, 61)
    for after in (20, 30, 40):
        assert killed(server, str(tmp_path / "store"), links, config, after) == -signal.SIGKILL
    ref = fetch(links, config, Context(store, seed=1))
    asked_for = sum(asked(server).values())
    assert asked_for - 120 <= 3 * (8 + 2 * 4), "at each kill a batch not written, and what was coming or looked at"
    quiet = open_or_create(str(tmp_path / "quiet"))
    other = fetch(sealed_links(quiet, urls, 61), config, Context(quiet, seed=1))
    assert (ref.version, ref.fingerprint, ref.content) == (other.version, other.fingerprint, other.content)
    assert verify(store) == []
    assert store.files.names(f"v/images/{ref.version}/partial") == []


# --- again ------------------------------------------------------------------------------------------------------------


def test_a_retry_asks_only_for_what_failed_for_passing_reasons(context, server):
    flaky = [server.url(path) for path in ("/down/1.jpg", "/later.jpg", "/reset")]
    final = [server.url(path) for path in ("/missing.jpg", "/page.jpg", "/denied/a.jpg")]
    links = sealed_links(context.store, [*pictures(server, 4), *flaky, *final, *pictures(server, 4, 4)], 5)
    config = fetching(server)
    first = fetch(links, config, context)
    assert context.store.open(first).reject_reasons == {
        "connection": 1, "http_404": 1, "http_429": 1, "http_5xx": 1, "not_an_image": 1, "robots": 1,
    }  # fmt: skip
    before = server.hits.copy()
    server.healed = True
    second = refetch(first, context, LAX)
    assert second.version != first.version
    news = server.hits - before
    assert set(news) == {"/robots.txt", "/down/1.jpg", "/later.jpg", "/reset"}
    assert second.rows == first.rows + 3
    assert context.store.open(second).reject_reasons == {"http_404": 1, "not_an_image": 1, "robots": 1}
    parents = [one.kind for one in context.store.open(second).parents]
    assert parents == ["links", "images"]
    # The last shard had nothing to retry: it was linked.
    reused = [receipt.rows_reused for receipt in context.store.open(second).manifest.shards]
    assert reused == [4, 3, 4]
    assert refetch(second, context, LAX) == second
    assert verify(context.store) == []


def test_only_what_was_fetched_can_be_retried_and_only_with_its_own_settings(context, server):
    links = sealed_links(context.store, [server.url("/down/1.jpg")])
    with pytest.raises(ConfigError, match="only what was fetched"):
        refetch(links, context)
    ref = fetch(links, fetching(server), context)
    with pytest.raises(ConfigError, match="other settings"):
        fetch(links, fetching(server, snapshot="2026-11-29"), context, ref)


def test_links_that_are_added_are_asked_for_alone(context, server):
    config, urls = fetching(server), [*pictures(server, 12), server.url("/missing.jpg")]
    first = fetch(sealed_links(context.store, urls, 5), config, context)
    before = server.hits.copy()
    # One in the middle moves the others to other shards.
    grown = [*urls[:7], server.url("/picture/99.jpg"), *urls[7:], server.url("/picture/100.jpg")]
    second = fetch(sealed_links(context.store, grown, 5), config, context)
    assert set(server.hits - before) == {"/robots.txt", "/picture/99.jpg", "/picture/100.jpg"}
    assert second.rows == first.rows + 2
    assert [one.rows_reused for one in context.store.open(second).manifest.shards] == [5, 4, 4]
    assert verify(context.store) == []


@pytest.mark.parametrize("change", [{"snapshot": "2026-12-24"}, {"crop_px": 32}, {"min_side_px": 25}])
def test_another_snapshot_or_other_settings_take_nothing_over(context, server, change):
    links = sealed_links(context.store, pictures(server, 3))
    fetch(links, fetching(server), context)
    fetch(links, fetching(server, **change), context)
    assert set(asked(server).values()) == {2}


@pytest.mark.parametrize("change", [{"concurrency": 3}, {"per_host": 1}, {"timeout_s": 9.0}, {"user_agent": "x/1 @"}])
def test_how_it_is_fetched_is_in_no_name(context, server, change):
    links = sealed_links(context.store, pictures(server, 2))
    assert fetch(links, fetching(server), context) == fetch(links, fetching(server, **change), context)


# --- manners ----------------------------------------------------------------------------------------------------------


def test_a_host_is_asked_few_things_at_once(context, server):
    fetch(sealed_links(context.store, pictures(server, 40)), fetching(server, per_host=2), context)
    assert server.most_running <= 2


def test_a_host_that_asks_for_an_hour_is_left_alone_at_once(context, server):
    links = sealed_links(context.store, [server.url(f"/later/{n}.jpg") for n in range(20)])
    version = context.store.open(fetch(links, fetching(server, per_host=1), context))
    assert version.reject_reasons == {"http_429": 20}
    assert sum(count for path, count in server.hits.items() if path.startswith("/later/")) == 1


def test_a_busy_host_is_asked_again_after_the_time_it_says(context, server):
    links = sealed_links(context.store, [server.url(f"/busy/{n}.jpg") for n in range(4)])
    assert fetch(links, fetching(server), context).rows == 4
    assert {count for path, count in server.hits.items() if path.startswith("/busy/")} == {2}


def test_a_host_that_takes_no_connection_is_given_up_for_the_shard(context, server, closed_port):
    dead = f"127.0.0.1:{closed_port}"
    links = sealed_links(context.store, [f"http://{dead}/{n}.jpg" for n in range(30)])
    config = fetching(server, allow_private=(dead,), robots=False, per_host=1)
    version = context.store.open(fetch(links, config, context))
    assert version.reject_reasons == {"connection": 30}
    given_up = [row for row in version.rejects().to_pylist() if "took none" in row["detail"]]
    assert len(given_up) == 27


def test_where_robots_txt_cannot_be_had_the_rules_of_rfc_9309_hold(context, server):
    links = sealed_links(context.store, pictures(server, 2))
    server.robots_status = 503
    first = fetch(links, fetching(server), context)
    assert context.store.open(first).reject_reasons == {"robots_unreachable": 2}
    assert asked(server) == {}
    server.robots_status = 404
    assert refetch(first, context, LAX).rows == 2


def test_robots_txt_is_not_asked_for_where_it_is_not_heeded(context, server):
    links = sealed_links(context.store, [server.url("/denied/a.jpg")])
    assert fetch(links, fetching(server, robots=False), context).rows == 1
    assert server.hits["/robots.txt"] == 0


def test_too_many_failures_publish_nothing(context, server):
    links = sealed_links(context.store, [server.url(f"/missing/{n}.jpg") for n in range(20)])
    with pytest.raises(TooManyRejects):
        fetch(links, fetching(server, max_reject_fraction=0.9), context)


def test_what_should_be_known_before_is_said(server):
    said = [str(one) for one in problems_of(fetching(server))]
    assert any("whom the owner of a host can write to" in one for one in said)
    assert any("may be asked though not public" in one for one in said)
    polite = FetchConfig(snapshot="2026-11-28", user_agent="mine/1 (+https://example.org/bot)")
    assert list(problems_of(polite)) == []


# --- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
def test_many_links_of_which_two_in_five_are_bad(context, server, count, caplog):
    caplog.set_level(logging.INFO, logger="lightgen.fetch")
    bad = ["/missing.jpg?{}", "/page.jpg?{}", "/cut.jpg?{}", "/noai.jpg?{}"]
    urls = [server.url(f"/picture/{n % 97}.jpg?{n}" if n % 5 < 3 else bad[n % 4].format(n)) for n in range(count)]
    version = context.store.open(fetch(sealed_links(context.store, urls, 500), fetching(server, journal=64), context))
    assert version.rows == count * 3 // 5
    assert version.reject_reasons == dict.fromkeys(
        ("http_404", "image_truncated", "not_an_image", "opted_out"), count // 10
    )
    [told] = [record.getMessage() for record in caplog.records if "links have a picture; of all" in record.getMessage()]
    low, high = (int(part.replace(",", "")) for part in told.split("it will be ")[1].split(" (")[0].split(" to "))
    assert 0.4 * count < low < high < 0.8 * count
