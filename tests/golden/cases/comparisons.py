"""Stages that decide over scores of several models: pairs and reports."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from lightgen.scorers.scenes import DETECTIONS
from lightgen.stages import evaluate, pair
from lightgen.storage.store import Store
from schemas.ref import ArtifactRef
from tests.golden.cases.decisions import CIRCLE, FAINT, SQUARE
from tests.golden.given import INPUTS, JUDGE, context, described
from tests.golden.subject import Output, Subject
from tests.lightgen.sealed import image, images, prompts, scores

CAPTIONS = ["a red circle left of a blue square", "a red circle", "two red circles", "a dog"]
SEEN = [f"[{CIRCLE}, {SQUARE}]", f"[{CIRCLE}]", f"[{FAINT}]", None]
SCENES, ANY_SCORE = {"judge": {"kind": "scenes"}}, {"gap": 0.25}
JUDGED = {
    "judge": {"kind": "vlm", "mode": "json", "model": {"kind": "transformers", "model": str(JUDGE)}},
    "winner": "student", "samples_per_prompt": 4,
}  # fmt: skip
LIKELY = JUDGED | {"judge": JUDGED["judge"] | {"mode": "probability"}}
FETCHED = {
    "judge": {"kind": "scenes"}, "winner": "links", "samples_per_prompt": 2, "gap": 0.1, "per_prompt": 1,
    "caps": [{"column": "source", "most": 2}, {"column": "host", "most": 1}],
}  # fmt: skip
PASSES = [{"column": "match", "least": 3}]

BEST_OF_TWO = {"best_of": {"scorer": {"kind": "scenes"}, "column": "correct", "derive": {"kind": "scenes"}, "most": 2}}
LAST_OF_TWO = {"best_of": {"scorer": {"kind": "scenes"}, "column": "index", "most": 2}}


def subjects() -> list[Subject]:
    """One a stage."""
    pairs = {
        "scenes": SCENES, "gap": SCENES | ANY_SCORE, "own": SCENES | {"winner": "student", "samples_per_prompt": 4},
        "geneval": SCENES | {"verdict": {"kind": "geneval"}}, "marks": JUDGED,
        "easy marks": JUDGED | {"passes": PASSES}, "probabilities": LIKELY, "links": FETCHED,
        "clusters": FETCHED | {"caps": [{"column": "cluster", "most": 1}], "clusters": 2},
    }  # fmt: skip
    exam: dict[str, Any] = {"detector": {"kind": "scenes"}, "samples_per_prompt": 1, "resamples": 100}
    reports = {
        "scenes": exam, "geneval": exam | {"verdict": {"kind": "geneval"}}, "twice": exam | {"samples_per_prompt": 2},
        "more resamples": exam | {"resamples": 150}, "gates": exam | {"gates": [0.5]},
        "best of two": exam | {"samples_per_prompt": 2} | BEST_OF_TWO,
        "the last of two": exam | {"samples_per_prompt": 2} | LAST_OF_TWO,
    }  # fmt: skip
    return [
        Subject("stage pair", (pair,), pair.PairConfig, pairs, _pair),
        Subject("stage evaluate", (evaluate,), evaluate.EvaluateConfig, reports, _evaluate),
    ]


def _drawn(
    store: Store, name: str, turn: int, samples: int, schema: pa.Schema, stage: str = "given"
) -> tuple[ArtifactRef, ArtifactRef]:
    """Images of every caption and the scores of a model that sees in turns, beginning at `turn`."""
    data, rows, answers = (INPUTS / "flat.png").read_bytes(), [], {}
    for place, caption in enumerate(CAPTIONS):
        for index in range(samples):
            where = {"host": f"{place % 2}.org", "source": "s"} if stage == "fetch" else {}
            where |= {"url": "", "licence": ""} if stage == "fetch" else {}
            facts = {"prompt_id": f"{place:032x}", "index": index, "seed": index, **where}
            row = image(f"{name} {place} {index}", data, caption, **facts)
            rows.append(row)
            answers[row[0]["id"]] = _answer(turn + place + index, schema)
    drawn = images(store, rows, 2, stage)
    return drawn, scores(store, drawn, answers, schema)


def _answer(turn: int, schema: pa.Schema) -> dict[str, Any]:
    seen = SEEN[turn % len(SEEN)]
    if seen is None:
        return {"unscored": "image_truncated", "unscored_detail": "it ends early"}
    if schema is DETECTIONS:
        return {"detections": seen}
    if "answer" in schema.names:
        return {**dict.fromkeys(schema.names, 3 + turn % 7), "answer": "{}"}
    return {name: "{}" if name == "logits" else (turn % 7 + name.endswith("denied")) / 8 for name in schema.names}


def _pair(config: pair.PairConfig, folder: Path) -> Output:
    works = context(folder)
    schema = config.judge.ANSWERS
    models = [_drawn(works.store, "student", 1, config.samples_per_prompt, schema)]
    if config.winner != "student":
        stage = "fetch" if config.winner == "links" else "given"
        models.append(_drawn(works.store, config.winner, 0, 1, schema, stage))
    drawn, judged = zip(*models, strict=True)
    return described(works.store, pair.pair(list(drawn), list(judged), config, works))


def _evaluate(config: evaluate.EvaluateConfig, folder: Path) -> Output:
    """Two models, of which the second was not asked for every image; what a dog is, only the metadata say."""
    works = context(folder)
    asked = prompts(works.store, CAPTIONS)
    meaning = {"tag": "colors", "include": [{"class": "circle", "count": 1, "color": "red"}], "prompt": "a dog"}
    known = config.resamples > 100
    if known:
        (folder / "metadata.jsonl").write_text(json.dumps(meaning) + "\n")
        config = config.model_copy(update={"metadata": str(folder / "metadata.jsonl")})
    judged = {name: _drawn(works.store, name, turn, 1, DETECTIONS)[1] for turn, name in enumerate(("one", "two"))}
    return described(works.store, evaluate.evaluate(asked, judged, config, works, best=judged))
