"""Names that lead inside: refused by the one look-up that there is, whatever a second one would say."""

import asyncio
import socket

import pytest

from lightgen.fetch import names
from lightgen.fetch.loopback import Loopback
from lightgen.fetch.names import Bounded, Known, Names
from lightgen.fetch.safe import PrivateAddress, parse
from lightgen.fetch.states import Failed
from lightgen.fetch.web import Manners, Memory, Web


class Answers:
    """A resolver that says something else at each look-up, and counts."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def __call__(self, host):
        self.asked.append(host)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, OSError):
            raise answer
        await asyncio.sleep(0.01)
        return answer


@pytest.fixture
def server():
    with Loopback() as server:
        yield server


def pictures(lookup, urls, **manners):
    async def ask():
        async with Web(Manners("test/1 @", robots=False, **manners), Memory(), lookup) as web:
            return await asyncio.gather(*(web.picture(parse(url, web.manners.allowed)) for url in urls))

    return asyncio.run(ask())


def test_a_name_with_one_address_inside_is_refused_whatever_the_others_are(server):
    lookup = Answers(["93.184.216.34", "127.0.0.1"])
    [found] = pictures(lookup, ["http://twofaced.example/a.jpg"])
    assert found == Failed("url_private", "twofaced.example -> 127.0.0.1 is not a public address")
    assert lookup.asked == ["twofaced.example"]


@pytest.mark.parametrize("inside", ["127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00::1"])
def test_every_sort_of_address_inside_is_refused_behind_a_name(inside):
    [found] = pictures(Answers([inside]), ["http://name.example/"])
    assert isinstance(found, Failed)
    assert found.reason == "url_private"


def test_a_second_look_up_that_differs_is_never_made(server):
    """Rebinding: public when it is checked, inside when it is connected to. The connection goes to what was checked."""
    lookup = Answers(["192.0.2.1"], ["127.0.0.1"])
    # Of the addresses for documentation nobody is public; here they stand for one that takes no connection.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "is_public", lambda address: str(address).startswith("192.0.2."))
        found = pictures(lookup, ["http://rebound.example/picture/1.jpg"] * 3, connect_s=0.3)
    assert {one.reason for one in found} <= {"timeout", "connection"}
    assert lookup.asked == ["rebound.example"]
    assert server.hits.total() == 0


def test_null_control_without_the_check_the_second_address_would_be_reached(server):
    host = f"rebound.example:{server.port}"
    lookup = Answers(["127.0.0.1"])
    [found] = pictures(lookup, [f"http://{host}/picture/1.jpg"], allowed=(host,))
    assert isinstance(found, bytes)
    assert server.targets[host] == 1


def test_a_name_is_looked_up_once_however_many_ask_and_an_allowed_one_is_named_exactly(server):
    host, lookup = f"good.example:{server.port}", Answers(["127.0.0.1"])
    urls = [f"http://{host}/picture/{n}.jpg" for n in range(8)]
    found = pictures(lookup, [*urls, "http://good.example/picture/1.jpg"], allowed=(host,), per_host=8)
    assert [type(one) for one in found] == [bytes] * 8 + [Failed]
    assert found[-1].reason == "url_private", "another port of the same name is not allowed"
    assert lookup.asked == ["good.example"]


def test_a_name_that_leads_nowhere_fails_for_a_passing_reason_and_is_not_asked_again():
    lookup = Answers(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    found = pictures(lookup, ["http://gone.example/1.jpg", "http://gone.example/2.jpg"])
    assert {one.reason for one in found} == {"dns"}
    assert found[0].passing
    assert len(lookup.asked) == 1


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(names, "MOST", 3)
    some = Bounded()
    for number in range(5):
        some[number] = number
    assert list(some) == [2, 3, 4]


def test_the_resolver_of_the_system_is_asked_where_no_other_is_given():
    async def ask():
        resolver = Names({"localhost:80"}, Known())
        try:
            found = await resolver.resolve("localhost", 80)
            with pytest.raises(PrivateAddress):
                await resolver.resolve("localhost", 81)
            return found
        finally:
            await resolver.close()

    assert {one["host"] for one in asyncio.run(ask())} <= {"127.0.0.1", "::1"}
