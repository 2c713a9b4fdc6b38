"""Lists of prompts that are read whole, such as those of an evaluation, and named by what they hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightgen.corpora.base import Corpus
from lightgen.errors import InputChanged
from lightgen.seeds import content_id
from lightgen.texts import repaired


@dataclass(frozen=True)
class PromptList:
    """The distinct texts of one corpus, repaired as captions are, sorted. `given` is where the user said they lie."""

    given: str
    source: str
    prompts: list[str]

    @property
    def facts(self) -> dict[str, str | int]:
        """What names the list: source, number and digest of its prompts."""
        return {"source": self.source, "prompts": len(self.prompts), "digest": content_id("prompts", *self.prompts)}


def read_prompt_lists(corpora: Sequence[Corpus]) -> list[PromptList]:
    """The lists, in order. Raises InputCorrupt."""
    return [PromptList(corpus.given, corpus.key, _texts(corpus)) for corpus in corpora]


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


def _texts(corpus: Corpus) -> list[str]:
    texts = (row.text for row in corpus.read() if row.text and not row.refused)
    return sorted({found for text in texts if (found := repaired(text.decode("utf-8", "replace")))})
