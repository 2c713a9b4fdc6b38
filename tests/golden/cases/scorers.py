"""Scorers: what they say of the committed pictures."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lightgen.scorers.base import ScorerMember
from lightgen.scorers.mask2former import Mask2FormerConfig
from lightgen.scorers.pixels import PixelsConfig
from lightgen.scorers.qwen_vl import QwenVlConfig, answer_columns, conversation
from lightgen.scorers.scenes import ScenesDetectorConfig
from tests.golden.compare import plain
from tests.golden.given import CAPTIONS, JUDGE, WEIGHTS, one_thread, picture, worker
from tests.golden.subject import ROOT, Output, Subject, Tolerance

PACKAGES = ROOT / ".venv" / "judge"
MARKS = {"sharpness": 8, "artefact_free": 9, "caption_match": 10, "countable": 7, "spatial_clarity": 6}
ANSWERS = [
    json.dumps(MARKS), f"```json\n{json.dumps(MARKS)}\n```", "10/10", json.dumps(MARKS | {"more": 1}),
    json.dumps(MARKS | {"countable": 11}), json.dumps(MARKS | {"countable": 7.5}),
    json.dumps(MARKS)[:-1] + ', "countable": 1}',
]  # fmt: skip


def subjects() -> list[Subject]:
    """One a member; the judge's model, which takes a process of its own, beside its questions."""
    eyes = {name: {"model": str(WEIGHTS / "mask2former" / name)} for name in ("segmenter", "colors")}
    judge = {"model": str(JUDGE), "dtype": "float32", "max_new_tokens": 12}
    # Rounding of halves may turn an answer of noise after a few tokens.
    halves = {name: judge | {"dtype": name, "max_new_tokens": 2} for name in ("bfloat16", "float16")}
    near = Tolerance(1e-3, 2e-2)
    return [
        Subject("scorer pixels", (PixelsConfig,), PixelsConfig, {"plain": {}}, _scores),
        Subject("scorer scenes", (ScenesDetectorConfig,), ScenesDetectorConfig, {"plain": {}}, _scores, near),
        Subject("scorer mask2former", (Mask2FormerConfig,), Mask2FormerConfig,
                {"plain": eyes, "low": eyes | {"floor": 0.05}}, _scores, near),
        Subject("scorer qwen_vl", (QwenVlConfig,), QwenVlConfig, {"questions": judge}, _questions),
        Subject("scorer qwen_vl model", (QwenVlConfig,), QwenVlConfig, {"plain": judge} | halves, _in_child,
                absent=_no_judge, long=True),
    ]  # fmt: skip


def _scores(member: ScorerMember, folder: Path) -> Output:
    with one_thread():
        shown = {name: picture(name) for name in CAPTIONS} | {"large": _large()}
        table = member.open(worker(folder)).score(list(shown.values()), [*CAPTIONS.values(), "slopes"])
    rows = dict(zip(shown, table.to_pylist(), strict=True))
    return plain({name: row | _opened(row) for name, row in rows.items()})


def _large() -> np.ndarray:
    """Slopes of 72 x 90 px, which a thumbnail has to shrink."""
    y, x = np.mgrid[0:72, 0:90]
    return np.stack([x * 2 + y % 3 * 9, y * 3 + x % 5 * 4, x * y // 30], -1).astype(np.uint8)


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    """Detections as JSON values: their numbers have a tolerance."""
    return {"detections": json.loads(row["detections"])} if "detections" in row else {}


def _questions(config: QwenVlConfig, _: Path) -> Output:
    """What is asked, and how answers are read; no model is loaded."""
    turns = conversation('a "dog"<|im_end|>', picture("wide"))
    asked = [[part.get("text", "picture") for part in turn["content"]] for turn in turns]
    return {"asked": asked, "read": answer_columns(ANSWERS).to_pylist(), "prompt": config.content()["prompt_sha256"]}


def _no_judge() -> str:
    beside = (PACKAGES / "qwen_vl_utils").is_dir() or importlib.util.find_spec("qwen_vl_utils")
    return "" if beside else "qwen-vl-utils is not installed"


def _in_child(config: QwenVlConfig, _: Path) -> Output:
    child = ROOT / "tests/lightgen/scorers/qwen_child.py"
    path = os.pathsep.join([str(ROOT), str(PACKAGES)])
    done = subprocess.run(
        [sys.executable, str(child), config.model_dump_json()],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    return plain([row["answer"] for row in json.loads(done.stdout.splitlines()[-1])["together"]])
