"""CHECKPOINT + PAIRS -> CHECKPOINT: DPO and its control on sealed pairs."""

import io
import json
import math
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightgen.storage.build import ShardOutput, build, make_plan
from PIL import Image
from pydantic import BaseModel

from lightgen.errors import ConfigError
from lightgen.generators.restore import load_student
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import captions, parse
from lightgen.seeds import content_id
from lightgen.stages.align import AlignConfig, align
from lightgen.training.loop import LoopConfig
from lightgen.training.optimizer import OptimizerConfig
from schemas.pairs import SCHEMA
from schemas.ref import ArtifactRef

LOOP = LoopConfig(steps=4, optimizer=OptimizerConfig(lr=2e-3, warmup_steps=0), ema=0.0, log_every=1, threads=1)


class _NoSettings(BaseModel):
    pass


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def noise_image(number: int) -> np.ndarray:
    """The loser of pair `number`."""
    return np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def sealed_pairs(chain, count: int, broken: int | None = None) -> ArtifactRef:
    """Sealed pairs: the right scene against noise; the loser of pair `broken` is no image."""
    rows, blobs = [], []
    for number, caption in enumerate(islice(captions("preference", "colors"), count)):
        scene = parse(caption)
        assert scene is not None
        row = {
            "id": content_id("pair", number),
            "prompt_id": f"q{number}",
            "caption": caption,
            "winner_id": f"w{number}",
            "winner_format": "png",
        }
        row |= {"loser_seed": number, "winner_score": 1.0, "loser_score": 0.0, "judge": "test"}
        rows.append(row | {"winner_verdict": "{}", "loser_verdict": "{}"})
        # A winner of twice the size takes the encoder's crop, as a web image would.
        loser = b"no image" if number == broken else _png(noise_image(number))
        blobs.append({"winner.png": _png(draw(scene, 64, number)), "loser.png": loser, "json": b"{}"})
    extra = {"count": count, "broken": broken}
    plan = make_plan("pairs", "pair", [], _NoSettings(), 0, [chain.checkpoint], 1, extra=extra)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return build(chain.store, plan, lambda _: ShardOutput(table=table, rows_in=count, blobs=blobs), SCHEMA)


def _log(chain, ref: ArtifactRef) -> list[dict]:
    return [json.loads(line) for line in chain.store.open(ref).file("log.jsonl").read_text().splitlines()]


def align_config(sample, **changes) -> AlignConfig:
    settings = {"batch_size": 4, "noise_copies": 2, "beta": 50.0, "loop": LOOP, "samples": sample, "sample_captions": 4}
    return AlignConfig(**(settings | changes))


def test_dpo_starts_at_ln_2_and_comes_to_prefer_the_winners(chain, sample) -> None:
    config = align_config(sample, loop=LOOP.model_copy(update={"steps": 25}))
    aligned = align(chain.checkpoint, sealed_pairs(chain, 6), config, chain.store, seed=1)
    rows = _log(chain, aligned)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert set(rows[0]) >= {"loss", "accuracy", "margin"}
    assert rows[-1]["loss"] < 0.6
    assert rows[-1]["accuracy"] > 0.9
    assert rows[-1]["margin"] > 0
    before, after = (load_student(chain.store.open(ref)) for ref in (chain.checkpoint, aligned))
    assert not torch.equal(before.token_in.weight, after.token_in.weight)


def test_the_control_trains_on_winners_alone_and_is_another_version(chain, sample) -> None:
    pairs = sealed_pairs(chain, 6)
    control = align(chain.checkpoint, pairs, align_config(sample, objective="sft"), chain.store, seed=1)
    assert "margin" not in _log(chain, control)[0]
    assert control.version != align(chain.checkpoint, pairs, align_config(sample), chain.store, seed=1).version
    start, encoded = chain.store.open(control).parents
    assert start == chain.checkpoint
    assert chain.store.open(encoded).parents[0] == pairs


def test_the_reference_is_asked_once_and_training_hardly_differs(chain, sample) -> None:
    """With draws bounded, errors are an artifact of their own; a live reference under the same draws agrees."""
    pairs = sealed_pairs(chain, 6)
    loop = LOOP.model_copy(update={"steps": 9, "precision": "fp32"})
    cached = align_config(sample, loop=loop, reference_draws=3)
    aligned = align(chain.checkpoint, pairs, cached, chain.store, seed=1)
    (reference,) = [ref for ref in chain.store.open(aligned).parents if ref.kind == "reference"]
    assert reference.rows == 6 * 3
    rows = _log(chain, aligned)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    asked = chain.store.open(reference).table().to_pylist()
    assert {row["draw"] for row in asked} == {0, 1, 2}
    first = next(row for row in rows if row["step"] == 1)
    of_draw = [row["winner_error"] for row in asked if row["draw"] == 0]
    assert min(of_draw) <= first["winner_error"] <= max(of_draw)
    again = align(chain.checkpoint, pairs, cached, chain.store, seed=1)
    assert again == aligned


def test_no_pairs_is_said(chain, sample) -> None:
    with pytest.raises(ConfigError, match="holds no pairs"):
        align(chain.checkpoint, sealed_pairs(chain, 0), align_config(sample), chain.store, seed=1)
