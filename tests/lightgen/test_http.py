"""`lightgen.http` against a real server on loopback that misbehaves; only the clock and the sleep are the test's."""

import logging
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random

import pytest

from lightgen.errors import ConfigError, ServiceRefused, SpendLimit, TryLater
from lightgen.http import Patience, Prices, Service, Spend, Timing, retry_after, said
from tests.servers.chat import ChatServer, cut, drip, hang, refuse

KEY = "sk-Secret-0123456789"
ASK = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}
CHAT = "/chat/completions"
NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC).timestamp()


class Clock:
    """Time that passes by sleeping, and by `step` at each look."""

    def __init__(self) -> None:
        self.time, self.slept = 0.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def timing(self) -> Timing:
        return Timing(self.sleep, lambda: self.time, lambda: NOW + self.time, Random(1))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def service(server: ChatServer, clock: Clock, spend: Spend | None = None, **patience) -> Service:
    return Service(server.url, patience=Patience(**patience), spend=spend, timing=clock.timing())


def text_of(answer: dict) -> str:
    return answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_passes_is_tried_again(clock: Clock, status: int) -> None:
    with ChatServer([refuse(status), refuse(status)]) as server:
        assert text_of(service(server, clock).post(CHAT, ASK)) == "a text"
    assert len(server.asked) == 3
    assert len(clock.slept) == 2
    assert all(0 <= wait <= most for wait, most in zip(clock.slept, (0.5, 1.0), strict=True))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 302])
def test_what_does_not_pass_is_not_tried_again(clock: Clock, status: int) -> None:
    with ChatServer([refuse(status)] * 9) as server, pytest.raises(ServiceRefused, match=f"HTTP {status}") as refused:
        service(server, clock).post(CHAT, ASK)
    assert len(server.asked) == 1
    assert refused.value.status in (status, 0)


@pytest.mark.parametrize(
    ("headers", "least"),
    [
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after": "2.5"}, 2.5),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": format_datetime(datetime.fromtimestamp(NOW + 30, UTC), usegmt=True)}, 30.0),
        ({"retry_after": "9", "retry_after_ms": "10"}, 0.01),
    ],
)
def test_a_service_is_given_the_time_that_it_asks_for(clock: Clock, headers: dict[str, str], least: float) -> None:
    with ChatServer([refuse(429, **headers)]) as server:
        service(server, clock).post(CHAT, ASK)
    (wait,) = clock.slept
    assert least <= wait <= least + 0.5


def test_all_threads_wait_where_one_is_told_to(clock: Clock) -> None:
    with ChatServer([refuse(429, retry_after="20")]) as server:
        one = service(server, clock)
        one.post(CHAT, ASK)
        one._closed_until = clock.time + 5
        one.post(CHAT, ASK)
    assert clock.slept[1] == pytest.approx(5)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "1_0"}, None),
        ({"Retry-After": ""}, None),
        ({"retry-after": "0"}, 0.0),
        ({"RETRY-AFTER-MS": "250"}, 0.25),
        ({"Retry-After": "Sat, 28 Nov 2026 12:00:09 GMT"}, 9.0),
        ({"Retry-After": "Sat, 28 Nov 2020 12:00:09 GMT"}, 0.0),
        ({"Retry-After": "Sat, 99 Nov 99999 12:00:09 GMT"}, None),
    ],
)
def test_how_long_a_response_asks_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers, NOW) == wait


def test_a_wait_that_is_too_long_is_for_later(clock: Clock) -> None:
    with ChatServer([refuse(429, retry_after="121")]) as server, pytest.raises(TryLater, match="asks to wait 121 s"):
        service(server, clock).post(CHAT, ASK)
    assert clock.slept == []


def test_tries_and_the_deadline_have_an_end(clock: Clock) -> None:
    with ChatServer([refuse(503)] * 99) as server:
        with pytest.raises(TryLater, match=r"HTTP 503: no 503, after 4 tries\. What was answered is kept"):
            service(server, clock, tries=4).post(CHAT, ASK)
        assert len(server.asked) == 4
        with pytest.raises(TryLater, match="the deadline of 3 s comes first"):
            service(server, clock, tries=99, deadline_s=3).post(CHAT, ASK)


def test_a_service_may_say_itself_whether_to_ask_again(clock: Clock) -> None:
    troubles = [refuse(400, x_should_retry="true"), refuse(503, x_should_retry="false")]
    with ChatServer(troubles) as server, pytest.raises(TryLater, match="it says not to ask again now"):
        service(server, clock).post(CHAT, ASK)
    assert len(server.asked) == 2


@pytest.mark.parametrize("where", ["type", "code"])
def test_a_spent_quota_is_no_passing_trouble(clock: Clock, where: str) -> None:
    body = {"error": {"message": "You exceeded your quota", where: "insufficient_quota"}}
    troubles = [refuse(429, body, retry_after="1")] * 3
    with ChatServer(troubles) as server, pytest.raises(ServiceRefused, match=r"You exceeded your quota .*top it up"):
        service(server, clock).post(CHAT, ASK)
    assert len(server.asked) == 1


def test_cut_bodies_and_pages_of_proxies_are_tried_again(clock: Clock) -> None:
    page = "<html><head><style>p{}</style><title>Bad</title></head><body><p>502 &amp; gone</p></body></html>"
    with ChatServer([cut, refuse(502, page), refuse(200, page)]) as server:
        assert text_of(service(server, clock).post(CHAT, ASK)) == "a text"
        assert len(server.asked) == 4
        server.trouble = [refuse(200, page)] * 9
        with pytest.raises(TryLater, match="its answer is no JSON object: 'Bad 502 & gone'"):
            service(server, clock).post(CHAT, ASK)


def test_a_service_that_says_nothing_is_asked_again(clock: Clock) -> None:
    with ChatServer([hang(600)]) as server:
        assert text_of(service(server, clock, timeout_s=1.0, tries=99).post(CHAT, ASK)) == "a text"
    assert len(server.asked) >= 2, "two, and more where a busy machine answers late"


def test_bytes_that_come_one_by_one_keep_no_deadline() -> None:
    with ChatServer([drip] * 9) as server:
        patient = Service(server.url, patience=Patience(deadline_s=0.5, tries=2))
        with pytest.raises(TryLater, match="the deadline"):
            patient.post(CHAT, ASK)


def test_nobody_at_the_address_is_for_later(clock: Clock, closed_port: int) -> None:
    nobody = Service(f"http://127.0.0.1:{closed_port}/v1", patience=Patience(tries=2), timing=clock.timing())
    with pytest.raises(TryLater, match="ConnectError"):
        nobody.post(CHAT, ASK)


# --- what services say ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text", "kinds"),
    [
        (b'{"error": {"message": "a", "type": "t", "param": null, "code": "c"}}', "a", {"t", "c"}),
        (b'{"error": {"message": "a", "type": "BadRequestError", "code": 400}}', "a", {"BadRequestError", "400"}),
        (b'{"object": "error", "message": "a", "type": "t", "param": null, "code": 40303}', "a", {"t", "40303"}),
        (b'{"detail": "Not Found"}', "Not Found", set()),
        (b'{"detail": [{"loc": ["body", "model"], "msg": "missing", "type": "m"}]}', "body.model: missing", set()),
        (b'{"error": "model not found"}', "model not found", set()),
        (b"<html><title>Bad</title><script>var a</script><p>gone</html>", "Bad gone", set()),
        (b"\xff\xfe", "\ufffd\ufffd", set()),
        (b"", "", set()),
        (b"[]", "[]", set()),
    ],
)
def test_all_shapes_of_errors_are_read_into_one_message(body: bytes, text: str, kinds: set[str]) -> None:
    assert said(body) == (text, kinds)


# --- keys -------------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("JUDGE_KEY", f" {KEY}\n")
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": "x" * 290 + f" {KEY} is wrong", "code": KEY}}
    page = f"<p>{KEY}</p>"
    with ChatServer([refuse(401, echo), refuse(500, page), refuse(200, page)]) as server:
        one = Service(server.url, "JUDGE_KEY", Patience(tries=1))
        said = [repr(one), str(one)]
        for kind in (ServiceRefused, TryLater, TryLater):
            with pytest.raises(kind) as error:
                one.post(CHAT, ASK)
            said += [str(error.value), repr(error.value)]
    assert [headers["Authorization"] for headers in server.headers] == [f"Bearer {KEY}"] * 3
    assert not any(KEY[:6] in text for text in [*said, caplog.text])
    assert "***" in " ".join(said)


@pytest.mark.parametrize("value", ["", "  ", "sk-a\nb", "sk-é", "sk a"])
def test_a_key_that_is_none_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(ConfigError, match="JUDGE_KEY") as error:
        Service("http://127.0.0.1:1/v1", "JUDGE_KEY")
    assert "sk-" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://host/v1", "http://", "http://user:pw@host/v1", "https://host/v1?key=abc"]
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="url: ") as error:
        Service(url)
    assert "pw" not in str(error.value).replace("password", "")
    assert "abc" not in str(error.value)


# --- spending ---------------------------------------------------------------------------------------------------------


def test_a_limit_stops_before_it_is_passed(clock: Clock) -> None:
    prices = Prices(usd_per_million_in=1000, usd_per_million_out=10_000, limit_usd=0.9)
    spend = Spend(prices)
    with ChatServer([refuse(500)]) as server:
        one = service(server, clock, spend)
        for _ in range(4):
            one.post(CHAT, ASK)
        with pytest.raises(SpendLimit, match=r"0\.8000 USD were spent on 4 answers, and limit_usd is 0\.9"):
            one.post(CHAT, ASK)
        assert len(server.asked) == 5
    assert spend.usd == pytest.approx(4 * (100 * 1000 + 10 * 10_000) / 1e6)


def test_a_limit_cannot_be_kept_where_nobody_says_what_was_taken(clock: Clock) -> None:
    with ChatServer(shape=lambda answer: {"choices": answer["choices"]}) as server:
        assert service(server, clock).post(CHAT, ASK)["choices"]
        with pytest.raises(SpendLimit, match="limit_usd cannot be kept"):
            service(server, clock, Spend(Prices(usd_per_million_in=1, limit_usd=1))).post(CHAT, ASK)
