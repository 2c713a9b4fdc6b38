"""Decisions that have no number of their own: those of the stages that decide with them are raised."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lightgen.config import Config
from lightgen.decisions.caps import caption_clusters
from lightgen.decisions.contamination import ContaminationConfig, contaminated
from lightgen.decisions.derive import Answers, Geneval, Probabilities, Questions, Scenes, derive
from lightgen.decisions.far_apart import Rarity, far_apart, terms_of
from lightgen.decisions.near_duplicates import NearDuplicateConfig, near_duplicates
from lightgen.decisions.shingles import read_words
from lightgen.seeds import content_id
from lightgen.stages import evaluate, pair, select
from tests.golden.compare import numbers, plain
from tests.golden.subject import Output, Subject

TEXTS = [
    "a large passenger jet sitting on top of an airport runway in the rain",
    "a large passenger jet sitting on top of an airport runway in the sun",
    "a large passenger jet sitting on the top of an airport runway in rain",
    "A man blowing out candles on a cake",
    "the man is blowing out candles on a cake",
    "a man blowing out candles",
    "a photo of a red bench",
    "a photo of a bench",
    "two green birds above a small boat",
    "two green birds above the small boat",
    "three yellow cups on a wooden table",
]
PROMPTS = ["a photo of a red bench!", "two green birds above a small boat on a lake", "cups on a wooden table"]


class Choice(Config):
    """How many of the texts are chosen."""

    count: int


def subjects() -> list[Subject]:
    """Near-duplicates, contamination, the diverse choice, kinds of captions, and each way to derive a verdict."""
    near = {
        "default": {}, "loose": {"threshold": 0.4}, "trigrams": {"words": 3, "threshold": 0.5},
        "few bands": {"recall": 0.5, "threshold": 0.5}, "short ones too": {"short_words": 0, "threshold": 0.5},
    }  # fmt: skip
    held = {
        "default": {}, "off": {"containment": None}, "some": {"containment": 0.5}, "pairs": {"words": 2},
        "alike": {"similarity": 0.4, "containment": None},
    }  # fmt: skip
    chosen = {"all": {"count": 11}, "some": {"count": 4}}
    made = (pair, evaluate)
    return [
        Subject("decision near-duplicates", (select,), NearDuplicateConfig, near, _near),
        Subject("decision contamination", (select,), ContaminationConfig, held, _contaminated),
        Subject("decision far apart", (pair, select), Choice, chosen, _choice),
        Subject("decision clusters", (pair,), Choice, chosen | {"one": {"count": 1}}, _clusters),
        Subject("verdict scenes", made, Scenes, {"default": {}, "strict": {"sure": 0.95}, "x": {"column": "x"}}, _seen),
        Subject("verdict geneval", made, Geneval, {"default": {}, "x": {"column": "x"}}, _seen),
        Subject("verdict answers", (pair,), Answers, {"default": {}, "two": {"columns": ("sharp", "countable")},
                                                      "of five": {"best": 5}}, _answers),
        Subject("verdict probabilities", (pair,), Probabilities,
                {"default": {}, "geometric": {"mean": "geometric"}, "two": {"questions": ("sharp", "match")},
                 "over one": {"over": ("safe",)}}, _probabilities),
        Subject("verdict questions", made, Questions, {"default": {}, "geometric": {"mean": "geometric"},
                                                       "sure": {"sure": 0.7}, "x": {"column": "x"}}, _questions),
    ]  # fmt: skip


def _near(config: NearDuplicateConfig, _: Path) -> Output:
    ids = [content_id(text) for text in TEXTS]
    keep = np.array([text.startswith("two") for text in TEXTS])
    found, given = near_duplicates(ids, TEXTS, config), near_duplicates(ids, TEXTS, config, keep)
    return {"refused": found.refused.tolist(), "with kept ones": given.refused.tolist(), "compared": found.compared}


def _contaminated(config: ContaminationConfig, _: Path) -> Output:
    return plain(contaminated(TEXTS, PROMPTS, config))


def _choice(config: Choice, _: Path) -> Output:
    terms, whole = terms_of(read_words(TEXTS)), np.array([0, len(TEXTS)])
    nothing = np.zeros(len(TEXTS), bool)
    order, novelty = far_apart(terms, Rarity.of(terms), whole, np.array([config.count]), nothing)
    return {"order": order.tolist(), "novelty": numbers(novelty)}


def _clusters(config: Choice, _: Path) -> Output:
    return caption_clusters([*TEXTS, TEXTS[0], "zebra"], config.count).tolist()


CIRCLE = '{"class": "circle", "color": "red", "score": 0.97, "box": [2, 9, 12, 20]}'
SQUARE = '{"class": "square", "color": "blue", "score": 0.84, "box": [18, 9, 28, 20]}'
FAINT = '{"class": "circle", "color": "red", "score": 0.7, "box": [2, 2, 8, 8]}'


def _seen(config: Geneval | Scenes, _: Path) -> Output:
    asked = ["a red circle left of a blue square", "a blue square", "two red circles", "a circle", "a dog", "a cross"]
    seen = [f"[{CIRCLE}, {SQUARE}]", f"[{CIRCLE}]", f"[{CIRCLE}, {FAINT}]", f"[{FAINT}]", f"[{CIRCLE}]", None]
    columns: dict[str, Any] = {"caption": asked, config.column: seen, "unscored": [""] * 5 + ["image_truncated"]}
    return plain(derive(pa.table(columns), config).to_pylist())


def _answers(config: Answers, _: Path) -> Output:
    columns: dict[str, Any] = {name: pa.array([7, 3, None], pa.int32()) for name in Answers().columns}
    columns |= {"sharp": pa.array([10, 0, None], pa.int32()), "unscored": ["", "", "vlm_unparsable"]}
    return plain(derive(pa.table(columns), config).to_pylist())


def _probabilities(config: Probabilities, _: Path) -> Output:
    columns: dict[str, Any] = {
        f"{name}_{way}": pa.array([0.1 + 0.13 * place, 0.9 - 0.1 * place, None], pa.float32())
        for place, name in enumerate(Probabilities().questions)
        for way in ("asked", "denied")
    }
    columns |= {"sharp_denied": pa.array([0.0, 1.0, None], pa.float32()), "unscored": ["", "", "vlm_refused"]}
    return plain(derive(pa.table(columns), config).to_pylist())


def _questions(config: Questions, _: Path) -> Output:
    told = [[0.9, 0.6], [0.95], [0.2, 1.0, 0.0]]
    texts = [json.dumps([{"question": f"q{n}", "p": p} for n, p in enumerate(each)]) for each in told]
    columns: dict[str, Any] = {config.column: [*texts, None], "unscored": ["", "", "", "no_questions"]}
    return plain(derive(pa.table(columns), config).to_pylist())
