"""robots.txt as RFC 9309 reads it: the longest rule that fits counts, and of equal ones that which allows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

MAX_BYTES = 500 << 10
MAX_RULES = 10_000
TOKEN = re.compile(r"[A-Za-z_\-]+")


@dataclass(frozen=True)
class Rules:
    """What a robots.txt says to one visitor: whether paths that begin like a pattern are allowed."""

    patterns: tuple[tuple[str, bool], ...] = ()

    def allow(self, path: str) -> bool:
        """Whether the path with its query may be asked for."""
        asked = _normal(path)
        fitting = [(len(pattern), allowed) for pattern, allowed in self.patterns if _fits(pattern, asked)]
        return max(fitting, default=(0, True))[1]


def read_rules(text: str, user_agent: str) -> Rules:
    """The rules of all groups for the product that `user_agent` begins with; without such, those for everybody."""
    found = TOKEN.match(user_agent)
    own, everybody = (found[0].lower() if found else ""), "*"
    groups: dict[str, list[tuple[str, bool]]] = {}
    for names, rules in _groups(text):
        for name in names:
            groups.setdefault(name, []).extend(rules)
    return Rules(tuple(groups.get(own, groups.get(everybody, []))[:MAX_RULES]))


def _groups(text: str) -> Iterable[tuple[set[str], list[tuple[str, bool]]]]:
    names: set[str] = set()
    rules: list[tuple[str, bool]] = []
    naming = False
    for line in text.splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if key == "user-agent" and colon:
            if not naming:
                yield names, rules
                names, rules = set(), []
            token = TOKEN.match(value)
            names.add("*" if value.startswith("*") else token[0].lower() if token else value.lower())
            naming = True
        elif key in ("allow", "disallow") and colon:
            naming = False
            if value:
                rules.append((_normal(value), key == "allow"))
    yield names, rules


def _normal(path: str) -> str:
    """Percent escapes spelled in one way."""
    return quote(unquote(path, errors="surrogateescape"), safe="/?&=*$:;,@+!'()~-._", errors="surrogateescape")


def _fits(pattern: str, path: str) -> bool:
    """`*` stands for anything, `$` for the end. Time grows with their lengths multiplied, whatever they are."""
    ends = pattern.endswith("$")
    first, *parts = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    if not parts:
        return not ends or path == first
    at = len(first)
    for part in parts[:-1]:
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    last = parts[-1]
    return path.endswith(last) and len(path) - len(last) >= at if ends else path.find(last, at) >= 0
