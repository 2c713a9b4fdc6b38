"""Whether a corpus can be read at all: its first caption tells of a file, a column and a format that are not there."""

from collections.abc import Callable, Iterator

from lightgen.corpora.raw import RawCaption
from lightgen.errors import InputCorrupt
from lightgen.problems import Problem


def first_caption(read: Callable[[], Iterator[RawCaption]]) -> Iterator[Problem]:
    """What keeps the first caption from being read; nothing where it is there."""
    try:
        if next(read(), None) is None:
            yield Problem("here", "", "holds no captions", "give a corpus that has some")
    except InputCorrupt as error:
        yield Problem("here", "", str(error), "put the file in its place, or change the recipe")
