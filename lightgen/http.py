"""HTTP to services that answer in JSON: judges, captioners, image APIs.

What passes by itself is waited for: as long as the service says (`Retry-After`), else with full jitter, within a
deadline. What must be tried later raises TryLater. What waiting does not help raises ServiceRefused, and a spent budget
raises SpendLimit.
A key comes from the environment, and stands in no message.
"""

import html
import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.errors import ConfigError, LightgenError, ServiceRefused, SpendLimit, TryLater
from lightgen.settings import secret
from schemas.scores import Unscored

FIRST_WAIT_S, LONGEST_JITTER_S = 0.5, 8.0
CONNECT_S = 10.0
LARGEST_ANSWER = 256 << 20  # bytes
DETAIL = 300  # characters of what a service says
AGAIN = {408, 409, 429}  # and all from 500 on
SPENT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}
# What services call the tokens that were sent, and those that were answered.
COUNTS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")
TAGS = re.compile(r"(?s)<(script|style).*?</\1>|<[^>]*>")
KEPT = "What was answered is kept: give the same command again"


class Patience(Config):
    """How long a service is waited for."""

    tries: int = Field(default=6, ge=1, description="of one request", json_schema_extra=RUN)
    timeout_s: float = Field(default=120, gt=0, description="without a byte from the service", json_schema_extra=RUN)
    deadline_s: float = Field(
        default=600, gt=0, description="for one answer, all tries and waits together", json_schema_extra=RUN
    )
    longest_wait_s: float = Field(
        default=120, ge=0, description="a service that asks for a longer wait is tried later", json_schema_extra=RUN
    )
    per_minute: float | None = Field(
        default=None, gt=0, description="requests of each worker at most; null: no limit", json_schema_extra=RUN
    )


class Prices(Config):
    """What a service takes, and how much of it one worker may spend."""

    usd_per_million_in: float = Field(default=0.0, ge=0, description="tokens that are sent", json_schema_extra=RUN)
    usd_per_million_out: float = Field(default=0.0, ge=0, description="tokens that are answered", json_schema_extra=RUN)
    usd_per_answer: float = Field(
        default=0.0, ge=0, description="each answer whatever its length, such as one image", json_schema_extra=RUN
    )
    limit_usd: float | None = Field(
        default=None, gt=0, description="of each worker from its start; null: no limit", json_schema_extra=RUN
    )


class Spend:
    """What was paid, by the service's own count of tokens. Threads may share it.

    A request is not begun where it could pass the limit, taking every one under way for the dearest so far.
    """

    def __init__(self, prices: Prices) -> None:
        self.prices = prices
        self.usd, self.dearest = 0.0, prices.usd_per_answer
        self.under_way = self.answers = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A request is about to be sent. Raises SpendLimit."""
        limit = self.prices.limit_usd
        with self._lock:
            if limit is not None and self.usd + (self.under_way + 1) * self.dearest > limit:
                raise SpendLimit(
                    f"{self.usd:.4f} USD were spent on {self.answers:,} answers, and limit_usd is {limit:g}. {KEPT} "
                    "with a higher limit"
                )
            self.under_way += 1

    def end(self, usage: Any) -> None:
        """A request came to its end; `usage` is what the service says of it, None where it gave no answer.

        Raises SpendLimit where there is a limit and the service does not say what it took.
        """
        with self._lock:
            self.under_way -= 1
            if usage is None:
                return
            cost = self._cost(usage)
            self.answers += 1
            self.usd += cost
            self.dearest = max(self.dearest, cost)

    def _cost(self, usage: Any) -> float:
        each = (self.prices.usd_per_million_in, self.prices.usd_per_million_out)
        if self.prices.usd_per_answer and not any(each):
            return self.prices.usd_per_answer
        counts = [next((usage[name] for name in names if name in usage), None) for names in COUNTS] if usage else []
        if not counts or not all(isinstance(count, int | float) and count >= 0 for count in counts):
            if self.prices.limit_usd is not None:
                raise SpendLimit("the service does not say how many tokens it took, so limit_usd cannot be kept")
            return self.prices.usd_per_answer
        tokens = sum(count * price for count, price in zip(counts, each, strict=True) if count) / 1e6
        return self.prices.usd_per_answer + tokens


@dataclass(frozen=True)
class Timing:
    """Clock, sleep and dice of a client; tests give their own."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    random: Random = field(default_factory=Random)


@dataclass(frozen=True)
class _Answer:
    """A response in full."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class _Trouble:
    """Why one try gave nothing: in words, whether another may, and how long the service asks to wait."""

    what: str
    again: bool
    wait_s: float | None = None
    status: int = 0
    kinds: frozenset[str] = frozenset()


class Service:
    """A service at one address. Threads may share it: where one is told to wait, all of them wait."""

    def __init__(
        self, url: str, key_env: str | None = None, patience: Patience | None = None, spend: Spend | None = None,
        timing: Timing | None = None,
    ) -> None:  # fmt: skip
        self.url, self.host = checked_url(url), urlsplit(url).netloc
        self.patience, self.timing = patience or Patience(), timing or Timing()
        self.spend = spend or Spend(Prices())
        self._key = _key(key_env)
        self._closed_until = self._next_turn = -math.inf
        self._turns = threading.Lock()
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.Client(headers=headers, limits=limits, follow_redirects=False)

    def __repr__(self) -> str:
        return f"Service({self.url})"

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that the service answers. Raises TryLater, ServiceRefused, SpendLimit."""
        end = self.timing.clock() + self.patience.deadline_s
        for attempt in range(self.patience.tries):
            self._pause(self._closed_until - self.timing.clock(), end, "it asks to wait")
            self._take_turn(end)
            answer = self._paid(path, body, end)
            if not isinstance(answer, _Trouble):
                return answer
            if not answer.again:
                raise ServiceRefused(f"{self.host}: {answer.what}", answer.status, answer.kinds)
            if attempt + 1 < self.patience.tries:
                self._wait(attempt, answer, end)
        raise self._later(f"{answer.what}, after {self.patience.tries} tries")

    def _paid(self, path: str, body: Mapping[str, Any], end: float) -> dict[str, Any] | _Trouble:
        self.spend.begin()
        usage: Any = None
        try:
            found = self._try(path, body, end)
            usage = found.get("usage", {}) if isinstance(found, dict) else None
        finally:
            self.spend.end(usage)
        return found

    def _try(self, path: str, body: Mapping[str, Any], end: float) -> dict[str, Any] | _Trouble:
        try:
            answer = self._send(path, body, end)
        except httpx.HTTPError as error:
            return _Trouble(self._masked(f"{type(error).__name__}: {error}"), again=True)
        if answer.status >= 300:
            return self._refused(answer)
        try:
            found = json.loads(answer.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            return _Trouble(f"its answer is no JSON object: {_plain(self._bare(answer.body))!r}", again=True)
        return found

    def _send(self, path: str, body: Mapping[str, Any], end: float) -> _Answer:
        left = end - self.timing.clock()
        if left <= 0:
            raise httpx.ReadTimeout("the deadline is over")
        timeout = httpx.Timeout(min(self.patience.timeout_s, left), connect=min(CONNECT_S, left))
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        headers = {"content-type": "application/json"}
        chunks, size = [], 0
        with self._client.stream("POST", f"{self.url}{path}", content=content, headers=headers, timeout=timeout) as got:
            for chunk in got.iter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > LARGEST_ANSWER:
                    raise httpx.ReadError(f"an answer of more than {LARGEST_ANSWER >> 20} MiB")
                if self.timing.clock() > end:  # bytes that come one by one keep no timeout
                    raise httpx.ReadTimeout("the deadline is over")
        return _Answer(got.status_code, got.headers, b"".join(chunks))

    def _refused(self, answer: _Answer) -> _Trouble:
        message, kinds = said(self._bare(answer.body))
        what = f"HTTP {answer.status}: {self._masked(message)}" if message else f"HTTP {answer.status}"
        if kinds & SPENT:
            return _Trouble(f"{what} (the quota is spent: top it up. {KEPT})", again=False, status=answer.status)
        if answer.status < 400:
            return _Trouble(f"HTTP {answer.status}, a redirection: give its target as url", again=False)
        asked = answer.headers.get("x-should-retry", "").lower()
        passing = answer.status in AGAIN or answer.status >= 500
        if asked == "false" and passing:
            raise self._later(f"{what}, and it says not to ask again now")
        again = passing or asked == "true"
        asks = retry_after(answer.headers, self.timing.now())
        return _Trouble(what, again, asks, answer.status, frozenset(kinds))

    def _wait(self, attempt: int, trouble: _Trouble, end: float) -> None:
        jitter = self.timing.random.uniform(0, min(LONGEST_JITTER_S, FIRST_WAIT_S * 2**attempt))
        told = trouble.wait_s or 0.0
        if told:
            if told > self.patience.longest_wait_s:
                raise self._later(f"{trouble.what}, and it asks to wait {told:.0f} s")
            self._closed_until = max(self._closed_until, self.timing.clock() + told)
        self._pause(told + jitter, end, trouble.what)

    def _take_turn(self, end: float) -> None:
        """Wait so that requests are as far apart as `per_minute` says. Raises TryLater."""
        if self.patience.per_minute is None:
            return
        with self._turns:
            turn = max(self.timing.clock(), self._next_turn)
            self._next_turn = turn + 60 / self.patience.per_minute
        self._pause(turn - self.timing.clock(), end, f"per_minute is {self.patience.per_minute:g}")

    def _pause(self, seconds: float, end: float, why: str) -> None:
        """Sleep. Raises TryLater where that would pass the deadline."""
        if self.timing.clock() + max(0.0, seconds) >= end:
            raise self._later(f"{why}, and the deadline of {self.patience.deadline_s:g} s comes first")
        if seconds > 0:
            self.timing.sleep(seconds)

    def _later(self, why: str) -> TryLater:
        return TryLater(f"{self.host}: {why}. {KEPT} later")

    def _bare(self, body: bytes) -> bytes:
        """A body without the key: masked before it is cut, so that no half of a key is left."""
        return body.replace(self._key.encode(), b"***") if self._key else body

    def _masked(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a response asks to wait: `retry-after-ms`, then `retry-after` as seconds or HTTP date; else None.

    `now` is the time in seconds since 1970.
    """
    known = {name.lower(): value.strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        if NUMBER.fullmatch(known.get(name, "")):
            return float(known[name]) / unit
    try:
        date = parsedate_to_datetime(known.get("retry-after", ""))
        return max(0.0, date.timestamp() - now)
    except (ValueError, OverflowError):
        return None


def said(body: bytes) -> tuple[str, set[str]]:
    """What an error's body says, and its types and codes: of OpenAI, vLLM, SGLang, FastAPI, or any text."""
    try:
        found = json.loads(body)
    except ValueError:
        return _plain(body), set()
    error = found.get("error", found) if isinstance(found, dict) else found
    if not isinstance(error, dict):
        return str(error)[:DETAIL], set()
    kinds = {str(error[name]) for name in ("type", "code") if error.get(name) is not None}
    text = error.get("message") or error.get("detail") or error
    if isinstance(text, list):  # of FastAPI: where and what, one by one
        text = "; ".join(f"{_place(one)}{one.get('msg', one)}" for one in text if isinstance(one, dict)) or text
    return str(text)[:DETAIL], kinds


def checked_url(url: str) -> str:
    """The address without its last slash. Raises ConfigError where it is none, or holds a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("url: give the address of a service, as in http://127.0.0.1:8000/v1")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError("url: no user, password or query in an address; a key comes from the environment (key_env)")
    return url.rstrip("/")


# Reasons of rows that are no answer, and the error that each of them ends a stage with.
UNSETTLED: Final[dict[str, type[LightgenError]]] = {
    "try_later": TryLater,
    "spend_limit": SpendLimit,
    "service_refused": ServiceRefused,
}


def as_unscored(error: LightgenError) -> Unscored:
    """One of the errors of a service as the reason why a row has no answer."""
    reason = next(reason for reason, kind in UNSETTLED.items() if isinstance(error, kind))
    return Unscored(reason, str(error))


def unsettled(reason: str, detail: str) -> LightgenError | None:
    """The error that a row without an answer ends its stage with; None for a reason that is kept with the row."""
    return UNSETTLED[reason](detail) if reason in UNSETTLED else None


def _key(name: str | None) -> str:
    """The key in an environment variable; "" without one. Raises ConfigError, which does not show it."""
    if name is None:
        return ""
    key = (secret(name) or "").strip()
    if not key:
        raise ConfigError(f"key_env: the environment has no variable {name}; set it to the key of the service")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"key_env: variable {name} holds characters that no key has")
    return key


def _plain(body: bytes) -> str:
    """The beginning of a text, without the tags of HTML."""
    text = TAGS.sub(" ", body[: 20 * DETAIL].decode("utf-8", "replace"))
    return " ".join(html.unescape(text).split())[:DETAIL]


def _place(one: Mapping[str, Any]) -> str:
    place = ".".join(map(str, one.get("loc", ())))
    return f"{place}: " if place else ""
