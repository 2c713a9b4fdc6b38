"""Survival by host: counted from rows and rejects, told on the page, tried again by `lightgen retry`."""

import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.corpora.laion import LaionLinks
from lightgen.decisions.rules import Rule
from lightgen.fetch.outlook import Outlook, interval
from lightgen.fetch.survival import HostLine, survival, survival_of
from lightgen.pages.gallery import gallery
from lightgen.stages.fetch import fetch
from lightgen.stages.links import LinksConfig, links
from lightgen.storage.store import open_or_create
from lightgen.work import Context
from tests.lightgen.cli.terminal import lightgen
from tests.lightgen.fetch.given import fetching, link, sealed_links
from tests.servers.bad_web import BadWeb


@pytest.fixture
def server():
    with BadWeb() as server:
        yield server


@pytest.fixture
def context(tmp_path):
    return Context(open_or_create(str(tmp_path / "store")), seed=1)


def test_hosts_stand_by_their_links_with_the_commonest_failure():
    got = ["a", "b", "a", "c"]
    failed = [("b", "dns"), ("b", "http_404"), ("b", "http_404"), ("d", "x"), ("d", "w")]
    assert survival(got, failed) == [
        HostLine("b", 4, 1, "http_404"), HostLine("a", 2, 2, ""), HostLine("d", 2, 0, "w"), HostLine("c", 1, 1, ""),
    ]  # fmt: skip
    assert [line.host for line in survival(got, failed, most=2)] == ["b", "a"]
    assert survival(got, failed)[0].share == 0.25
    assert survival([], []) == []


def some_links(server):
    urls = [server.url(path) for path in ("/picture/1.jpg", "/picture/2.jpg", "/missing.jpg", "/down/1.jpg")]
    return [*map(link, urls), link("http://<b>.example:22/", host="<b>evil</b>.example")]


def test_the_page_of_a_fetch_says_what_became_of_each_host(context, server):
    ref = fetch(sealed_links(context.store, some_links(server), 3), fetching(server), context)
    version = context.store.open(ref)
    assert survival_of(version) == [
        HostLine("127.0.0.1", 4, 2, "http_404"), HostLine("<b>evil</b>.example", 1, 0, "url_malformed"),
    ]  # fmt: skip
    page = gallery(version, context.store)
    assert "Survival by host" in page
    assert "1 link failed for reasons that pass" in page
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page[page.index("Survival by host") :])[:10]
    assert cells == ["127.0.0.1", "4", "2", "50 %", "http_404", "&lt;b&gt;evil&lt;/b&gt;.example", "1", "0", "0 %",
                     "url_malformed"]  # fmt: skip
    assert "<b>evil" not in page


def test_links_have_a_page_with_what_each_step_took(context, tmp_path):
    columns = {"URL": ["http://a.example/<b>", "http://a.example/2", "ftp://x"], "TEXT": ["one", "two two", "three"]}
    pq.write_table(pa.table({**columns, "aesthetic": [7.0, 5.0, 7.0]}), tmp_path / "a.parquet")
    table, rule = LaionLinks(path=str(tmp_path / "a.parquet")), Rule(column="aesthetic", least=6)
    page = gallery(context.store.open(links(LinksConfig(corpora=[table], rules=(rule,)), context)), context.store)
    step = re.search(r"low_aesthetic</td>(.*?)</tr>", page)
    assert step
    assert re.findall(r">(\d+)</td>", step[1]) == ["2", "1", "1"]
    assert "http://a.example/&lt;b&gt;" in page


def test_retry_says_what_it_gained(context, server, monkeypatch, capsys):
    ref = fetch(sealed_links(context.store, some_links(server)), fetching(server), context)
    server.healed = True
    command = ("retry", str(ref), "--store", context.store.uri)
    code, out, _ = lightgen(*command, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    newest = context.store.open("images@latest")
    assert f"{newest.ref}: 1 more pictures, 3 in all" in out
    assert re.search(r"http_5xx +1 before +0 now", out)
    command = ("retry", str(newest.ref), "--store", context.store.uri, "--concurrency", "3")
    code, out, _ = lightgen(*command, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0
    assert "nothing to do" in out
    code, _, err = lightgen("retry", "links", "--store", context.store.uri, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert "only what was fetched" in err


def test_an_outlook_is_told_once_enough_was_tried():
    outlook = Outlook(total=100_000)
    assert outlook.add(999, 700) == ""
    assert outlook.add(1, 1) == "67% to 73% have a picture"
    small = Outlook(total=10)
    assert small.add(9, 9) == ""
    assert small.add(1, 0)


@pytest.mark.parametrize(("found", "tried"), [(0, 10), (10, 10), (5, 10), (70, 100)])
def test_an_interval_holds_its_share(found, tried):
    low, high = interval(found, tried)
    assert 0 <= low <= found / tried <= high <= 1
