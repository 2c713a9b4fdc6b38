"""Which addresses of the web may be asked: told by the text of a URL alone, and of the numbers a name resolves to.

Only http and https, ports 80 and 443, no credentials, and no address that is not public, however it is spelled: in
octal, as one number, as IPv6 that carries IPv4. `allowed` names exceptions as exact `host:port`, for tests.
"""

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass

import idna
from yarl import URL

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
PORTS = {"http": 80, "https": 443}
LONGEST = 4096  # characters
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
NAME = re.compile(r"[a-z0-9_]([a-z0-9_\-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_\-]*[a-z0-9_])?)*\Z")
PORT = re.compile(r"[0-9]{0,5}\Z")
NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Refused:
    """Why an address is not asked."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Target:
    """A URL that may be asked; its host is lower case ASCII, and where it is an address, a public or allowed one."""

    url: URL
    host: str
    port: int

    @property
    def origin(self) -> str:
        """Scheme, host and port: what a robots.txt speaks for."""
        return str(self.url.origin())


class PrivateAddress(Exception):  # a verdict that travels through a library, no fault
    """A name that leads to an address which is not public."""


def parse(text: str, allowed: Collection[str] = ()) -> Target | Refused:
    """The URL to ask, or why it is not asked: url_scheme, url_malformed, url_credentials or url_private."""
    text = text.strip(" ")
    found = SCHEME.match(text)
    if found and found[1].lower() not in PORTS:
        return Refused("url_scheme", f"{found[1][:20].lower()}: is not fetched, only http and https")
    if fault := _fault(text, bool(found)):
        return Refused("url_malformed", fault)
    assert found is not None, "asked before"
    scheme, rest = found[1].lower(), text[found.end() + 2 :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return Refused("url_credentials", "the address holds a user name or a password")
    host, port = _split(authority)
    if host is None:
        return Refused("url_malformed", f"no host and port: {authority[:80]!r}")
    return _target(scheme, host, int(port or PORTS[scheme]), rest[len(authority) :], allowed)


def _fault(text: str, has_scheme: bool) -> str:
    """What is wrong with the text as a whole."""
    if not text or not has_scheme:
        return "no address" if not text else "no scheme: it does not begin with http:// or https://"
    if len(text) > LONGEST:
        return f"{len(text)} characters, at most {LONGEST}"
    if odd := CONTROL.search(text):
        return f"a control character at {odd.start()}"
    if "\\" in text:
        return "a backslash"
    return "" if text[text.index(":") + 1 :].startswith("//") else "no // after the scheme"


def _split(authority: str) -> tuple[str | None, str]:
    """Host and port as text; no host where they are none."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        good = bracket and (not rest or colon == ":") and PORT.match(port)
        return (f"[{host}]", port) if good and host else (None, "")
    host, _, port = authority.partition(":")
    return (host, port) if host and PORT.match(port) else (None, "")


def _target(scheme: str, given: str, port: int, rest: str, allowed: Collection[str]) -> Target | Refused:
    host = _canonical(given)
    if host is None:
        return Refused("url_malformed", f"no name of a host: {given[:80]!r}")
    shown = f"[{host}]" if ":" in host else host
    if f"{shown}:{port}" not in allowed:
        if why := _private(host):
            return Refused("url_private", f"{given[:80]} -> {why}")
        if port not in PORTS.values():
            return Refused("url_malformed", f"port {port}; only 80 and 443 are asked")
    try:
        url = URL(f"{scheme}://{shown}:{port}{rest}")
    except ValueError as error:
        return Refused("url_malformed", str(error)[:200])
    return Target(url, host, port)


def _canonical(given: str) -> str | None:
    """The host as it is connected to; an address however it is spelled is in its usual form. None: there is none."""
    if given.startswith("["):
        return _ipv6(given[1:-1])
    host = given.lower()
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            return None
    host = host.removesuffix(".")
    if NUMBER.match(host.rpartition(".")[2]):
        return _ipv4(host)
    return host if len(host) <= 253 and NAME.match(host) else None


def _ipv6(text: str) -> str | None:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    return None if address.scope_id else str(address)


def _ipv4(text: str) -> str | None:
    """An IPv4 address as C's `inet_aton` reads it: 1 to 4 numbers, decimal, octal or hexadecimal."""
    parts = text.split(".")
    if not all(NUMBER.match(part) for part in parts) or len(parts) > 4:
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    *high, low = numbers
    if any(number > 255 for number in high) or low >= 256 ** (5 - len(parts)):
        return None
    return str(ipaddress.IPv4Address(sum(n << 8 * (3 - place) for place, n in enumerate(high)) + low))


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8) if len(text) > 1 and text[0] == "0" else int(text)


def _private(host: str) -> str:
    """Why the host is not public, as far as its text tells."""
    if host == "localhost" or host.endswith(".localhost"):
        return "this machine"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ""
    return "" if is_public(address) else f"{address} is not a public address"


def is_public(address: IPAddress) -> bool:
    """Whether anybody on the internet may be meant: nothing private, reserved, local or many at once."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
