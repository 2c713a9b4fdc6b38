"""Doing the next thing while the last one is used."""

from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")


def one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each asked for while the one before is used."""
    current = next(items, None)
    while current is not None:
        following = next(items, None)
        yield current
        current = following
