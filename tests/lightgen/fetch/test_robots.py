"""robots.txt: the examples of RFC 9309, and texts that were made to hurt."""

import time

import pytest

from lightgen.fetch.robots import read_rules

TEXT = """\
# a comment
User-Agent: ExampleBot   # named
Disallow: /foo
Disallow: /bar

User-agent: *
User-agent: other-bot
Disallow: *.gif$
Disallow: /example/
Allow: /publications/
crawl-delay: 9

user-agent: ExampleBot
allow: /foo/bar
User-agent: quiet
Disallow:
"""


@pytest.mark.parametrize(
    ("agent", "path", "allowed"),
    [
        ("ExampleBot/1.0 (+x)", "/foo", False),
        ("examplebot", "/foo/bar/a.jpg", True),  # two groups of one name are one
        ("ExampleBot", "/example/", True),  # its own groups, not those for everybody
        ("Somebody", "/example/a", False),
        ("Somebody", "/a.gif", False),
        ("Somebody", "/a.gif?x", True),
        ("Somebody", "/publications/a.gif", True),  # the longer rule
        ("other-bot/2", "/example/x", False),
        ("quiet/1", "/example/x", True),
        ("Somebody", "/", True),
    ],
)
def test_rules_are_those_of_the_group_and_the_longest_counts(agent, path, allowed):
    assert read_rules(TEXT, agent).allow(path) is allowed


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("Disallow: /a/*/c", "/a/b/c.jpg", False),
        ("Disallow: /a/*/c$", "/a/b/c.jpg", True),
        ("Disallow: /a*b*c$", "/axxbxxc", False),
        ("Disallow: /*a", "/bcd", True),
        ("Disallow: /p\nAllow: /p", "/p", True),
        ("Disallow: /", "/x", False),
        ("Disallow: /$", "/x", True),
        ("Disallow: /a%3cd", "/a%3Cd.html", False),
        ("Disallow: /%E3%83%84", "/ツ", False),
        ("Disallow: /ツ", "/%E3%83%84", False),
        ("no rule at all\n:::\nDisallow", "/x", True),
    ],
)
def test_patterns_escapes_and_nonsense(rules, path, allowed):
    assert read_rules(f"User-agent: *\n{rules}\n", "me/1").allow(path) is allowed


def test_a_text_made_of_stars_takes_no_time():
    rules = read_rules("User-agent: *\n" + f"Disallow: /{'*a' * 2000}b\n" * 20, "me")
    began = time.thread_time()
    assert rules.allow("/" + "a" * 4000)
    assert time.thread_time() - began < 1
