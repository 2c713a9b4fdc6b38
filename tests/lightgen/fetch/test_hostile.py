"""Hostile links: each gives its reason, none reaches an address that is not public. The servers are real and count."""

import json

import pytest

from lightgen.fetch.loopback import Loopback
from lightgen.stages.fetch import fetch
from lightgen.storage.store import open_or_create
from lightgen.work import Context
from tests.lightgen.fetch.given import fetching, reasons, sealed_links
from tests.servers.bad_web import BadWeb

# Ways to write 127.0.0.1 and other addresses inside; PORT is that of a server that nobody may reach.
INSIDE = [
    "127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1",
    "017700000001", "127.0.0.1.", "LOCALHOST", "a.localhost", "[::ffff:127.0.0.1]", "[::127.0.0.1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]", "0", "１２７.０.０.１", "127。0。0。1", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.0.1", "100.64.0.1", "[fc00::1]", "[fd12:3456::1]", "[fe80::1]", "224.0.0.1", "[ff02::1]",
    "255.255.255.255",
    "240.0.0.1", "198.18.0.1",
]  # fmt: skip
OTHERS = {
    "file:///etc/passwd": "url_scheme",
    "ftp://example.com/a.jpg": "url_scheme",
    "gopher://127.0.0.1:PORT/_x": "url_scheme",
    "data:image/png;base64,iVBORw0KGgo=": "url_scheme",
    "pipe:cat /etc/passwd": "url_scheme",
    "http://u:secret@127.0.0.1:PORT/": "url_credentials",
    "http://example.com@127.0.0.1:PORT/": "url_credentials",
    "http://example.com:22/": "url_malformed",
    "http://example.com:99999/": "url_malformed",
    "http:///a.jpg": "url_malformed",
    "http://exa\x00mple.com/": "url_malformed",
    "http://example.com/a\r\nHost: 127.0.0.1": "url_malformed",
    "http://127.0.0.1:PORT\\@example.com/": "url_malformed",
    "http://example.com/" + "a" * 5000: "url_malformed",
    "//127.0.0.1:PORT/a.jpg": "url_malformed",
    "a.jpg": "url_malformed",
    "": "url_malformed",
}
LEADS = {
    "/to?place=http://ELSEWHERE/secret": "url_private",
    "/to?place=//ELSEWHERE/secret": "url_private",
    "/to?place=http://localhost/secret": "url_private",
    "/to?place=http://2130706433/secret": "url_private",
    "/to?place=http://169.254.169.254/latest/meta-data/": "url_private",
    "/to?place=http://[::ffff:127.0.0.1]/": "url_private",
    "/to?place=file:///etc/passwd": "url_scheme",
    "/to?place=http://u:p@ELSEWHERE/": "url_credentials",
    "/to?place=http:\\\\ELSEWHERE/": "url_malformed",
    "/hops/4": "url_redirects",
    "/loop": "url_redirects",
}


@pytest.fixture
def context(tmp_path):
    return Context(open_or_create(str(tmp_path / "store")), seed=1)


@pytest.fixture(scope="module")
def inside():
    """A server that nobody may reach."""
    with Loopback() as server:
        yield server


@pytest.fixture(scope="module")
def server(inside):
    with BadWeb(inside.address) as server:
        yield server


def hostile(server, inside):
    """Every hostile link with its reason."""
    port = str(inside.port)
    found = {f"http://{host}:{port}/picture/1.jpg": "url_private" for host in INSIDE}
    found |= {url.replace("PORT", port): reason for url, reason in OTHERS.items()}
    return found | {server.url(path): reason for path, reason in LEADS.items()}


def test_no_hostile_link_reaches_an_address_inside(context, server, inside):
    links = hostile(server, inside)
    assert len(links) >= 60
    before = inside.hits.total()
    ref = fetch(sealed_links(context.store, links), fetching(server), context)
    assert reasons(context.store, ref) == links
    assert inside.hits.total() == before
    details = {json.loads(row["row"])["url"]: row["detail"] for row in context.store.open(ref).rejects().to_pylist()}
    assert "(hop 2)" in details[server.url("/to?place=http://ELSEWHERE/secret")]
    assert not any("secret@" in detail for detail in details.values())


def test_null_control_without_the_guard_the_server_inside_is_reached_and_counts(context, server, inside):
    open_to_all = fetching(server, allow_private=(server.address, inside.address, f"localhost:{inside.port}"))
    before = inside.hits.copy()
    links = [f"http://{host}:{inside.port}/picture/{n}.jpg" for n, host in enumerate(["127.1", "localhost"])]
    links.append(server.url("/to?place=http://ELSEWHERE/picture/9.jpg"))
    ref = fetch(sealed_links(context.store, links), open_to_all, context)
    assert set(reasons(context.store, ref).values()) == {None}
    assert {path for path in inside.hits - before if path != "/robots.txt"} == {f"/picture/{n}.jpg" for n in (0, 1, 9)}


BODIES = {
    "/endless.jpg": "too_large",
    "/gzip-bomb": "too_large",
    "/page.jpg": "not_an_image",
    "/random.bin": "not_an_image",
    "/huge.png": "image_too_many_pixels",
    "/large.png": "image_too_many_pixels",
    "/cut.jpg": "image_truncated",
    "/empty.jpg": "empty_file",
    "/a.eps": "image_format",
    "/a.psd": "image_format",
    "/a.svg": "image_format",
    "/a.tiff": "image_format",
    "/many.gif": "image_animated",
    "/many.png": "image_animated",
    "/many.webp": "image_animated",
    "/bomb.png": "image_metadata_bomb",
    "/tiny.png": "image_too_small",
    "/small.png": "image_too_small",
    "/line.png": "image_aspect",
    "/missing.jpg": "http_404",
    "/gone.jpg": "http_410",
    "/status/403": "http_403",
    "/status/418": "http_4xx",
    "/status/204": "http_2xx",
    "/status/304": "http_3xx",
    "/too-many": "http_429",
    "/down": "http_5xx",
    "/reset": "connection",
    "/short.jpg": "connection",
    "/garbage": "http_malformed",
    "/brotli": "content_encoding",
    "/not-gzip": "content_encoding",
    "/noai.jpg": "opted_out",
    "/noimageai.jpg": "opted_out",
    "/tdm.jpg": "opted_out",
    "/this-bot.jpg": "opted_out",
    "/denied/a.jpg": "robots",
    # And what is fine.
    "/denied/but-this.jpg": None,
    "/other-bot.jpg": None,
    "/nofollow.jpg": None,
    "/busy/1.jpg": None,
    "/gzipped": None,
    "/hops/3": None,
    "/cmyk.jpg": None,
    "/16bit.png": None,
    "/palette.png": None,
    "/exif.jpg": None,
    "/picture/1.jpg": None,
    "/picture/2.png": None,
    "/picture/3.webp": None,
}


def test_every_bad_answer_has_its_reason_and_every_odd_picture_is_kept(context, server):
    links, before = {server.url(path): reason for path, reason in BODIES.items()}, server.hits["/robots.txt"]
    ref = fetch(sealed_links(context.store, links), fetching(server), context)
    assert reasons(context.store, ref) == links
    version = context.store.open(ref)
    rows = {row["url"]: row for row in version.table().to_pylist()}
    turned = rows[server.url("/exif.jpg")]
    assert (turned["width"], turned["height"]) == (40, 90)
    assert {row["format"] for row in rows.values()} == {"jpg", "png", "webp"}
    assert server.hits["/denied/a.jpg"] == 0
    assert server.hits["/robots.txt"] == before + 1


def test_bytes_that_come_one_by_one_have_an_end(context, server):
    ref = fetch(sealed_links(context.store, [server.url("/slow.jpg")]), fetching(server, timeout_s=1.0), context)
    assert set(reasons(context.store, ref).values()) == {"timeout"}


def test_pictures_are_stored_as_they_were_received(context, server):
    import urllib.request

    urls = [server.url(f"/picture/{n}.{format}") for n, format in enumerate(["jpg", "png", "webp"], 20)]
    version = context.store.open(fetch(sealed_links(context.store, urls), fetching(server), context))
    for row in version.table().to_pylist():
        with urllib.request.urlopen(row["url"]) as answer:
            assert version.member(row["id"], row["format"]) == answer.read()
