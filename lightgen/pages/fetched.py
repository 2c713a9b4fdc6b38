"""The part of a page that says what became of links, host by host."""

from markupsafe import Markup

from lightgen.fetch.states import PASSING
from lightgen.fetch.survival import survival_of
from lightgen.pages.html import render
from lightgen.storage.version import Version

HOSTS = 30


def fetched_html(version: Version) -> Markup:
    """The hosts with most links, and how many links of the version failed for reasons that pass."""
    lines = survival_of(version)
    passing = sum(count for reason, count in version.reject_reasons.items() if reason in PASSING)
    return Markup(render("fetched.html", lines=lines[:HOSTS], hosts=len(lines), passing=passing))
