"""Packs of questions: built in, listed in a recipe, or one list for each caption in a file."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lightgen.config import RUN, Config
from lightgen.errors import InputCorrupt
from lightgen.problems import Problem

NAME = r"^[a-z][a-z0-9_]{0,39}$"


class Question(Config):
    """A question that yes or no answers, and its denial; {caption} in them stands for the caption, quoted."""

    name: str = Field(pattern=NAME, description="of its columns of scores")
    asked: str = Field(min_length=1, description="yes is good")
    denied: str = Field(min_length=1, description="no is good")


QUALITY = tuple(
    Question(name=name, asked=asked, denied=denied)
    for name, asked, denied in (
        (
            "sharp",
            "Is this picture sharp and rich in detail?",
            "Is this picture blurred, out of focus or poor in detail?",
        ),
        (
            "clean",
            "Is this picture free of artefacts, watermarks and overlaid text?",
            "Does this picture have artefacts, a watermark or overlaid text?",
        ),
        (
            "match",
            "Caption: {caption}\nDoes this picture show all that the caption says, with the right numbers, colours and "
            "places?",
            "Caption: {caption}\nIs anything that the caption says missing or wrong in this picture?",
        ),
        (
            "countable",
            "Can the main objects in this picture be told apart and counted?",
            "Are the main objects in this picture too merged, cut off or unclear to be counted?",
        ),
        (
            "placed",
            "Is it clear where the objects in this picture are to each other?",
            "Is it unclear where the objects in this picture are to each other?",
        ),
        (
            "safe",
            "Is this picture fit for people of all ages, without nudity, gore or hate?",
            "Does this picture show nudity, gore or hate?",
        ),
    )
)
STANDARD = tuple(question.name for question in QUALITY)


class QualityPack(Config):
    """The standard questions, or some of them."""

    kind: Literal["quality"] = "quality"
    only: tuple[str, ...] | None = Field(default=None, min_length=1, description="names; null: all six")

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = [name for name in self.only or () if name not in STANDARD]
        if unknown or len(set(self.only or ())) != len(self.only or ()):
            raise ValueError(f"questions: name some of {', '.join(STANDARD)}, each once")
        return self

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked of every image."""
        return tuple(one for one in QUALITY if self.only is None or one.name in self.only)


class ListPack(Config):
    """Questions of a recipe's own."""

    kind: Literal["list"] = "list"
    ask: tuple[Question, ...] = Field(min_length=1, description="the questions")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if len({one.name for one in self.ask}) != len(self.ask):
            raise ValueError("questions: each needs a name of its own")
        return self

    @property
    def questions(self) -> tuple[Question, ...]:
        """What is asked of every image."""
        return self.ask


@dataclass(frozen=True)
class Expected:
    """A question about the image of one caption, and the right answer."""

    question: str
    answer: str

    @property
    def asked(self) -> str:
        """As a question that yes answers where the right answer is right; where that is no, so does no."""
        if self.answer.casefold() in ("yes", "no"):
            return self.question
        return f"{self.question} Is this the answer: {self.answer}?"


class FilePack(Config):
    """Questions for each caption from a file: lines of JSON, or one JSON document that is a list.

    A record has `prompt` or `caption`, and `questions` (a list of {question, answer}), `vqa_list` (a list of [question,
    answer], as GenEval 2 has) or `question` and `answer` (as TIFA has: records of one caption belong together).
    """

    kind: Literal["file"] = "file"
    path: str = Field(min_length=1, description="JSON lines with `prompt` and `questions`", json_schema_extra=RUN)

    def content(self) -> dict[str, Any]:
        """See `Config.content`: the file by its digest. Raises InputCorrupt."""
        return {**super().content(), "sha256": hashlib.sha256(self._data).hexdigest()}

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a file that cannot be read as questions."""
        try:
            found = self.by_caption
        except InputCorrupt as error:
            yield Problem("here", "path", str(error), "give a JSONL of prompts with their questions")
            return
        if not found:
            yield Problem("here", "path", f"{self.path} holds no question", "give a JSONL of prompts with questions")

    @cached_property
    def by_caption(self) -> Mapping[str, tuple[Expected, ...]]:
        """Questions of each caption, in the order of the file; white space around captions does not count."""
        found: dict[str, list[Expected]] = {}
        for number, record in self._records():
            try:
                caption, questions = _read(record)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputCorrupt(f"{self.path}, record {number}: no prompt with its questions: {error!r}") from None
            known = found.setdefault(caption, [])
            known += [one for one in questions if one not in known]
        return {caption: tuple(questions) for caption, questions in found.items() if questions}

    @cached_property
    def _data(self) -> bytes:
        try:
            return Path(self.path).expanduser().read_bytes()
        except OSError as error:
            raise InputCorrupt(f"questions: {self.path} cannot be read: {error.strerror}") from None

    def _records(self) -> Iterator[tuple[int, Any]]:
        try:
            text = self._data.decode("utf-8-sig")
            if text.lstrip().startswith("["):
                yield from enumerate(json.loads(text), 1)
                return
        except ValueError as error:
            raise InputCorrupt(f"{self.path}: not UTF-8, or no JSON: {error}") from None
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except ValueError as error:
                    raise InputCorrupt(f"{self.path}, line {number}: no JSON: {error}") from None


def _read(record: Any) -> tuple[str, list[Expected]]:
    """Caption and questions of a record. Raises KeyError, TypeError, ValueError, AttributeError."""
    caption = record["prompt"] if "prompt" in record else record["caption"]
    if "questions" in record:
        pairs = [(one["question"], one["answer"]) for one in record["questions"]]
    elif "vqa_list" in record:
        pairs = [(question, answer) for question, answer in record["vqa_list"]]
    else:
        pairs = [(record["question"], record["answer"])]
    questions = [Expected(question.strip(), str(answer).strip()) for question, answer in pairs]
    if not all(one.question and one.answer for one in questions):
        raise ValueError("an empty question or answer")
    return caption.strip(), questions


def _short(value: Any) -> Any:
    """`quality`, or names of its questions, in place of the settings of a pack."""
    if isinstance(value, str):
        return {"kind": value}
    return {"kind": "quality", "only": value} if isinstance(value, list | tuple) else value


PackConfig = Annotated[
    Annotated[QualityPack | ListPack | FilePack, Field(discriminator="kind")], BeforeValidator(_short)
]
