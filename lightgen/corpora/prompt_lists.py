"""Lists of prompts that are read whole, such as those of an evaluation, and named by what they hold."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightgen.corpora.base import Corpus
from lightgen.errors import InputChanged
from lightgen.seeds import content_id
from lightgen.texts import repaired

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptList:
    """The distinct texts of one corpus, repaired as captions are, sorted. `given` is where the user said they lie.

    unread: rows that hold no prompt that can be read, so nothing is held against it
    """

    given: str
    source: str
    prompts: list[str]
    unread: int = 0

    @property
    def facts(self) -> dict[str, str | int]:
        """What names the list: source, number and digest of its prompts, and how many rows hold none."""
        known = {"source": self.source, "prompts": len(self.prompts), "digest": content_id("prompts", *self.prompts)}
        return known | ({"unread": self.unread} if self.unread else {})


def read_prompt_lists(corpora: Sequence[Corpus]) -> list[PromptList]:
    """The lists, in order. Rows without a prompt are warned of. Raises InputCorrupt."""
    return [_read(corpus) for corpus in corpora]


def read_as_planned(corpora: Sequence[Corpus], planned: Any, stage: str) -> list[PromptList]:
    """The lists again. Raises InputChanged where their facts are not those that a plan of `stage` holds."""
    lists = read_prompt_lists(corpora)
    found = [one.facts for one in lists]
    if found != planned:
        raise InputChanged(
            f"{stage}.evaluation: the lists hold {found}, in place of {planned} when the stage began. Run the same "
            "command again, with the same files on every machine"
        )
    return lists


def _read(corpus: Corpus) -> PromptList:
    prompts, unread = set[str](), list[str]()
    for row in corpus.read():
        why = row.refused[1] if row.refused else "no text"
        try:
            text = "" if row.refused else repaired((row.text or b"").decode("utf-8"))
        except UnicodeDecodeError as error:
            text, why = "", f"not UTF-8: {error.reason}"
        if text:
            prompts.add(text)
        else:
            unread.append(f"{row.where}: {why}")
    if unread:
        log.warning("%s: %s rows hold no prompt, so no caption is held against them; the first is %s",
                    corpus.given, f"{len(unread):,}", unread[0])  # fmt: skip
    return PromptList(corpus.given, corpus.key, sorted(prompts), len(unread))
