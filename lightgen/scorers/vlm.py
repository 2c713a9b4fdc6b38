"""Scorer `vlm`, a vision-language model as judge.

In mode `probability` it is asked yes-or-no questions, each of them and its denial, and what is kept is how likely it
says yes. In mode `json` it marks all questions at once in its own words (model_facts 3.4), which is cheaper and far
less telling. With a file of questions each image is asked those of its own caption.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from lightgen.config import content_of
from lightgen.decisions.derive import NO_QUESTIONS, Answers, DeriveConfig, Probabilities, Questions
from lightgen.problems import Problem
from lightgen.scorers.base import ScorerMember, Unscored, answer_table
from lightgen.storage.pixels import Pixels
from lightgen.vlm.base import Asked, VisionLanguageModel, YesNo
from lightgen.vlm.config import VlmConfig
from lightgen.vlm.packs import Expected, FilePack, PackConfig, QualityPack, Question
from lightgen.vlm.prompts import ASKING, YES_OR_NO, filled, marking, quoted
from lightgen.vlm.qwen import TransformersVlmConfig
from lightgen.vlm.reading import LONGEST, marks
from lightgen.work import Worker

BEST = 10
DIGITS = 6
PROMPT_TOKENS = 60  # of a question, about
ANSWERS_REHEARSED = 24
POLARITIES = ("asked", "denied")
QUESTIONS_AT_ONCE = 64  # of a file, for each image, at most: more is a mistake


class VlmScorerConfig(ScorerMember):
    """Which model answers which questions, and how."""

    kind: Literal["vlm"] = "vlm"
    model: VlmConfig = Field(default=TransformersVlmConfig(), description="who is asked")
    mode: Literal["probability", "json"] = Field(
        default="probability", description="json: marks from 0 to 10 in the model's own words"
    )
    questions: PackConfig = Field(
        default=QualityPack(), description="quality, names of its questions, a list of questions, or a file by caption"
    )
    max_new_tokens: int = Field(default=128, ge=1, description="mode json: of an answer")

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.mode == "json" and isinstance(self.questions, FilePack):
            raise ValueError("questions of a file are answered by probability: leave mode out")
        return self

    @property
    def asks(self) -> tuple[Question, ...]:
        """What every image is asked; nothing where a file asks by caption."""
        return () if isinstance(self.questions, FilePack) else self.questions.questions

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the questions."""
        return tuple(question.name for question in self.asks)

    @property
    def ANSWERS(self) -> pa.Schema:  # pyright: ignore[reportIncompatibleVariableOverride]  # it depends on the questions
        """See `ScorerMember`."""
        if isinstance(self.questions, FilePack):
            said = {"format": "JSON list of question, answer, p: its probability, logprobs: of yes and no"}
            return pa.schema([pa.field("answers", pa.string(), metadata=said)])
        if self.mode == "json":
            return pa.schema([*map(_mark_field, self.asks), _text_field("answer", {"is": "the model's own words"})])
        both = [_probability_field(one, polarity) for one in self.asks for polarity in POLARITIES]
        told = {"format": "JSON: question, asked and denied, log-probabilities of yes and of no, and which is a bound"}
        return pa.schema([*both, _text_field("logits", told)])

    @property
    def verdict(self) -> DeriveConfig:
        """See `ScorerMember.verdict`."""
        if isinstance(self.questions, FilePack):
            return Questions()
        return Answers(columns=self.names, best=BEST) if self.mode == "json" else Probabilities(questions=self.names)

    @property
    def wants_gpu(self) -> bool:
        """See `ScorerMember.wants_gpu`."""
        return self.model.wants_gpu

    @property
    def journals(self) -> bool:
        """See `ScorerMember.journals`: on a GPU it takes long, and a server is paid."""
        return True

    @property
    def batch(self) -> int:
        """See `ScorerMember.batch`."""
        return max(1, math.ceil(self.model.together / self._asked_each))

    @property
    def weight_bytes(self) -> float:
        """See `ScorerMember.weight_bytes`."""
        return self.model.weight_bytes

    def flops(self, height_px: int, width_px: int) -> float | None:
        """See `ScorerMember.flops`: the picture is read once, whatever is asked."""
        told = PROMPT_TOKENS * (len(self.asks) if self.mode == "json" else self._asked_each)
        return self.model.flops(height_px, width_px, told + (self.max_new_tokens / 2 if self.mode == "json" else 0))

    @property
    def _asked_each(self) -> int:
        """Questions about one image, about."""
        return 1 if self.mode == "json" else 2 * len(self.asks) or 8

    def content(self) -> dict[str, Any]:
        """Settings, weights and the words that are asked."""
        return {**super().content(), "prompt_sha256": self.prompt_sha256}

    @property
    def prompt_sha256(self) -> str:
        """Digest of all that the model is told beside captions and pictures."""
        told = [ASKING, YES_OR_NO, marking(self._by_name, BEST) if self.mode == "json" else ""]
        return hashlib.sha256(json.dumps([*told, content_of(self.asks)], sort_keys=True).encode()).hexdigest()

    @property
    def _by_name(self) -> dict[str, str]:
        """What is marked, by name: the captions stand beside it."""
        return {one.name: one.asked.replace("Caption: {caption}\n", "").replace("{caption}", "it") for one in self.asks}

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a setting that this mode does not read."""
        if self.mode == "probability" and self.max_new_tokens != type(self).model_fields["max_new_tokens"].default:
            yield Problem("recipe", "max_new_tokens", "mode probability writes nothing", "leave it out", "remark")

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a model that answers in the form asked for, as the picture turns it."""
        random = Random(0)
        if self.mode == "json":
            given = [{name: random.randint(0, BEST) for name in self.names} for _ in range(ANSWERS_REHEARSED)]
            texts, told = [json.dumps(one) for one in given], marking(self._by_name, BEST)
            return self.model_copy(update={"model": self.model.tiny(folder, texts, told)})
        return self.model_copy(update={"model": self.model.rehearse(folder)})

    def open(self, worker: Worker) -> "VlmScorer":
        """See `ScorerMember.open`."""
        return VlmScorer(self, self.model.open(worker))


class VlmScorer:
    """Asks a model, and puts its answers in rows. A row of which one question has no answer has none."""

    def __init__(self, config: VlmScorerConfig, model: VisionLanguageModel) -> None:
        self.config, self.model = config, model

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        """See `Scorer.score`."""
        if isinstance(self.config.questions, FilePack):
            return answer_table(self.config.ANSWERS, self._of_captions(self.config.questions, images, captions))
        if self.config.mode == "json":
            return self._marked(images, captions)
        texts = [[_told(question, polarity, caption) for question in self.config.asks for polarity in POLARITIES]
                 for caption in captions]  # fmt: skip
        answers = self._yes_no(images, texts)
        return answer_table(self.config.ANSWERS, [_probabilities(self.config.names, each) for each in answers])

    def _yes_no(self, images: Sequence[Pixels], texts: Sequence[Sequence[str]]) -> list[list[YesNo] | Unscored]:
        """For each image the answers to its questions, or why one of them has none."""
        asked = [Asked((image,), text, ASKING) for image, each in zip(images, texts, strict=True) for text in each]
        found = iter(self.model.yes_no(asked))
        return [_all_or_why([next(found) for _ in each]) for each in texts]

    def _marked(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        system = marking(self.config._by_name, BEST)
        pairs = zip(images, captions, strict=True)
        asked = [Asked((image,), f"Caption: {quoted(caption)}", system) for image, caption in pairs]
        written = self.model.write(asked, self.config.max_new_tokens)
        rows = [one if isinstance(one, Unscored) else marks(one, self.config.names, BEST) for one in written]
        table = answer_table(self.config.ANSWERS, rows)
        # What was said is kept even where it says nothing.
        texts = [None if isinstance(one, Unscored) else one[:LONGEST] for one in written]
        place = table.schema.get_field_index("answer")
        return table.set_column(place, table.schema.field(place), pa.array(texts, pa.string()))

    def _of_captions(
        self, pack: FilePack, images: Sequence[Pixels], captions: Sequence[str]
    ) -> list[Mapping[str, Any] | Unscored]:
        packs = [pack.by_caption.get(caption.strip(), ())[:QUESTIONS_AT_ONCE] for caption in captions]
        texts = [[f"{one.asked} {YES_OR_NO}" for one in each] for each in packs]
        answers = self._yes_no(images, texts)
        return [_expected(*pair) for pair in zip(packs, answers, strict=True)]


def probability(answer: YesNo) -> float:
    """How likely yes is where the answer is yes or no."""
    return 1 / (1 + math.exp(min(700.0, answer.no - answer.yes)))


def _told(question: Question, polarity: str, caption: str) -> str:
    return f"{filled(getattr(question, polarity), caption)} {YES_OR_NO}"


def _all_or_why(found: Sequence[YesNo | Unscored]) -> list[YesNo] | Unscored:
    why = next((one for one in found if isinstance(one, Unscored)), None)
    return why or [one for one in found if isinstance(one, YesNo)]


def _probabilities(names: Sequence[str], answers: list[YesNo] | Unscored) -> dict[str, Any] | Unscored:
    if isinstance(answers, Unscored):
        return answers
    keys = [(name, polarity) for name in names for polarity in POLARITIES]
    columns = {f"{name}_{polarity}": probability(one) for (name, polarity), one in zip(keys, answers, strict=True)}
    logits: dict[str, dict[str, Any]] = {name: {} for name in names}
    for (name, polarity), one in zip(keys, answers, strict=True):
        logits[name][polarity] = _logprobs(one)
    return {**columns, "logits": json.dumps(logits)}


def _expected(questions: Sequence[Expected], answers: list[YesNo] | Unscored) -> dict[str, Any] | Unscored:
    if isinstance(answers, Unscored):
        return answers
    if not questions:
        return Unscored(NO_QUESTIONS, "the file has no questions for this caption")
    said = []
    for question, one in zip(questions, answers, strict=True):
        yes = probability(one)
        right = 1 - yes if question.answer.casefold() == "no" else yes
        told = {"question": question.question, "answer": question.answer}
        said.append({**told, "p": round(right, DIGITS), "logprobs": _logprobs(one)})
    return {"answers": json.dumps(said, ensure_ascii=False)}


def _logprobs(one: YesNo) -> list[float | str]:
    return [round(one.yes, DIGITS), round(one.no, DIGITS), *([one.bound] if one.bound else [])]


def _mark_field(question: Question) -> pa.Field:
    return pa.field(question.name, pa.int32(), metadata={"asks": question.asked, "range": f"0 to {BEST}"})


def _probability_field(question: Question, polarity: str) -> pa.Field:
    about = {"asks": getattr(question, polarity), "range": "0 to 1: yes against no"}
    return pa.field(f"{question.name}_{polarity}", pa.float32(), metadata=about)


def _text_field(name: str, about: dict[str, str]) -> pa.Field:
    return pa.field(name, pa.string(), metadata=about)
