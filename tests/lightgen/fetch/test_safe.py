"""Addresses by their text alone: what may be asked comes out as it is connected to."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightgen.fetch.safe import Refused, Target, is_public, parse


@pytest.mark.parametrize(
    ("text", "url", "host"),
    [
        ("http://Example.COM./a b.jpg?x=ü#part", "http://example.com/a%20b.jpg?x=%C3%BC#part", "example.com"),
        ("https://bücher.example/ä.jpg", "https://xn--bcher-kva.example/%C3%A4.jpg", "xn--bcher-kva.example"),
        (" http://8.8.8.8/a ", "http://8.8.8.8/a", "8.8.8.8"),
        ("http://134744072/", "http://8.8.8.8/", "8.8.8.8"),
        ("http://[2606:4700::1]/", "http://[2606:4700::1]/", "2606:4700::1"),
        ("http://[64:ff9b::808:808]/", "http://[64:ff9b::808:808]/", "64:ff9b::808:808"),
        ("http://example.com:443/a", "http://example.com:443/a", "example.com"),
        ("https://i_under.example/%2Fa%20b", "https://i_under.example/%2Fa%20b", "i_under.example"),
        ("http://127.0.0.1.example.com/", "http://127.0.0.1.example.com/", "127.0.0.1.example.com"),
    ],
)
def test_what_may_be_asked_is_spelled_in_one_way(text, url, host):
    found = parse(text)
    assert isinstance(found, Target), found
    assert (str(found.url), found.host) == (url, host)


def test_exceptions_are_exact():
    assert isinstance(parse("http://127.0.0.1:8080/", {"127.0.0.1:8080"}), Target)
    assert isinstance(parse("http://[::1]:8080/", {"[::1]:8080"}), Target)
    for text in ("http://127.0.0.1:8081/", "http://127.0.0.2:8080/", "http://localhost:8080/", "http://127.0.0.1/"):
        assert parse(text, {"127.0.0.1:8080"}).reason == "url_private"


@given(
    st.text(max_size=60), st.sampled_from(["", "http://", "https://", "http://[", "http://127.0.0.1", "//", "http:"])
)
def test_no_text_is_too_odd(text, before):
    found = parse(before + text)
    assert isinstance(found, Refused | Target)
    if isinstance(found, Target):
        assert found.url.raw_host == found.host
        assert found.port in (80, 443)


@given(st.ip_addresses(network="127.0.0.0/8") | st.ip_addresses(network="10.0.0.0/8"), st.randoms())
def test_no_spelling_of_a_private_address_passes(address, random):
    number, parts = int(address), str(address).split(".")
    ways = [
        str(number), hex(number), oct(number).replace("o", ""), f"0{number:o}",
        ".".join(random.choice([part, hex(int(part)), f"0{int(part):o}"]) for part in parts),
        f"{parts[0]}.{int(address) & 0xFFFFFF}", f"{parts[0]}.{parts[1]}.{int(address) & 0xFFFF}",
        f"[::ffff:{address}]", f"[64:ff9b::{address}]", f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::]",
    ]  # fmt: skip
    for way in ways:
        assert parse(f"http://{way}/").reason == "url_private", way


def test_public_is_what_anybody_can_reach():
    public = ["8.8.8.8", "2606:4700::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"]
    hidden = ["127.0.0.1", "0.0.0.0", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.251", "240.0.0.1", "::",
              "fec0::1", "2001:db8::1", "ff0e::1", "64:ff9b:1::1", "2002:a00:1::", "::1.2.3.4"]  # fmt: skip
    assert all(is_public(ipaddress.ip_address(one)) for one in public)
    assert not any(is_public(ipaddress.ip_address(one)) for one in hidden)
