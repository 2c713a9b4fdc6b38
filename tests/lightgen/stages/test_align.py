"""CHECKPOINT + PAIR_FEATURES -> CHECKPOINT: DPO and its control on sealed pairs."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from lightgen.encoders.words import WordsConfig
from lightgen.errors import ConfigError
from lightgen.generators.restore import load_student
from lightgen.model.masking import MaskLaw
from lightgen.model.sampling import SampleConfig
from lightgen.stages.align import AlignConfig, align
from lightgen.stages.reference import reference
from lightgen.stages.texts import TextsConfig, texts
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig
from lightgen.training.optimizer import OptimizerConfig
from schemas.ref import ArtifactRef
from tests.lightgen.conftest import Chain

LOOP = LoopConfig(steps=4, optimizer=OptimizerConfig(lr=2e-3, warmup_steps=0), ema=0.0, log_every=1, threads=1)


def _log(chain: Chain, ref: ArtifactRef) -> list[dict]:
    return [json.loads(line) for line in chain.store.open(ref).file("log.jsonl").read_text().splitlines()]


def align_config(sample: SampleConfig, **changes: Any) -> AlignConfig:
    settings = {"batch_size": 4, "noise_copies": 2, "beta": 50.0, "loop": LOOP, "samples": sample, "sample_captions": 4}
    return AlignConfig(**(settings | changes))


def test_dpo_starts_at_ln_2_and_comes_to_prefer_the_winners(chain: Chain, encoded: ArtifactRef, sample) -> None:
    config = align_config(sample, loop=LOOP.model_copy(update={"steps": 25}))
    aligned = align(chain.checkpoint, encoded, chain.words(encoded), config, chain.context())
    rows = _log(chain, aligned)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert set(rows[0]) >= {"loss", "accuracy", "margin"}
    assert rows[-1]["loss"] < 0.6
    assert rows[-1]["accuracy"] > 0.9
    assert rows[-1]["margin"] > 0
    before, after = (load_student(chain.store.open(ref)) for ref in (chain.checkpoint, aligned))
    assert not torch.equal(before.token_in.weight, after.token_in.weight)


def test_the_control_trains_on_winners_alone_and_is_another_version(chain: Chain, encoded: ArtifactRef, sample) -> None:
    parents = [chain.checkpoint, encoded, chain.words(encoded)]
    control = align(*parents, align_config(sample, objective="sft"), chain.context())
    assert "margin" not in _log(chain, control)[0]
    assert control.version != align(*parents, align_config(sample), chain.context()).version
    assert chain.store.open(control).parents == parents


def test_the_reference_is_asked_once_and_training_hardly_differs(chain: Chain, encoded: ArtifactRef, sample) -> None:
    """With draws bounded, errors are an artifact of their own; a live reference under the same draws agrees."""
    loop = LOOP.model_copy(update={"steps": 9, "precision": "fp32"})
    cached = align_config(sample, loop=loop, reference_draws=3)
    assert cached.reference is not None
    asked = reference(chain.checkpoint, encoded, chain.words(encoded), cached.reference, chain.context())
    aligned = align(chain.checkpoint, encoded, chain.words(encoded), cached, chain.context(), asked)
    assert chain.store.open(aligned).parents == [chain.checkpoint, encoded, chain.words(encoded), asked]
    assert asked.rows == 6 * 3
    rows = _log(chain, aligned)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    said = chain.store.open(asked).table().to_pylist()
    assert {row["draw"] for row in said} == {0, 1, 2}
    first = next(row for row in rows if row["step"] == 1)
    of_draw = [row["winner_error"] for row in said if row["draw"] == 0]
    assert min(of_draw) <= first["winner_error"] <= max(of_draw)
    live = _log(chain, align(chain.checkpoint, encoded, chain.words(encoded), cached, chain.context()))
    assert [row["loss"] for row in live] == pytest.approx([row["loss"] for row in rows], rel=1e-3)
    assert align(chain.checkpoint, encoded, chain.words(encoded), cached, chain.context(), asked) == aligned


def test_the_control_asks_no_reference(sample) -> None:
    assert align_config(sample, objective="sft", reference_draws=3).reference is None
    assert align_config(sample).reference is None


def test_pairs_count_by_their_margins_which_are_a_parent(chain: Chain, encoded: ArtifactRef, sample) -> None:
    pairs = chain.store.open(encoded).parent("pairs")
    config = align_config(sample, pair_weights="margin")
    weighted = align(chain.checkpoint, encoded, chain.words(encoded), config, chain.context(), pairs)
    assert chain.store.open(weighted).parents == [chain.checkpoint, encoded, chain.words(encoded), pairs]
    plain = align(chain.checkpoint, encoded, chain.words(encoded), align_config(sample), chain.context())
    # The margins of these pairs are equal, so it is another version that was trained alike.
    losses = [[row["loss"] for row in _log(chain, ref)] for ref in (weighted, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert weighted.version != plain.version


def test_shuffled_labels_are_another_version_and_teach_no_preference(chain: Chain, encoded, sample) -> None:
    config = align_config(sample, loop=LOOP.model_copy(update={"steps": 25}), labels="shuffled")
    shuffled = _log(chain, align(chain.checkpoint, encoded, chain.words(encoded), config, chain.context()))
    assert shuffled[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    as_given = align_config(sample, labels="given")
    assert "labels" not in as_given.content(), "checkpoints of before keep their names"
    assert "pair_weights" not in as_given.content()
    assert config.content()["labels"] == "shuffled"


def test_an_anchor_is_in_the_name_where_there_is_one_and_none_of_a_fine_tune(chain: Chain, encoded, sample) -> None:
    config = align_config(sample, loop=LOOP.model_copy(update={"steps": 25}), anchor=10.0)
    assert config.content()["anchor"] == 10.0
    assert "anchor" not in align_config(sample, anchor=0.0).content(), "checkpoints of before keep their names"
    log = _log(chain, align(chain.checkpoint, encoded, chain.words(encoded), config, chain.context()))
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert [problem.where for problem in align_config(sample, objective="sft", anchor=10.0).problems()] == ["anchor"]


def test_anchored_winners_are_denoised_better_than_without(chain: Chain, encoded, sample) -> None:
    """At a rate at which winners are forgotten with the losers, whose pairs then seem to be learned."""
    hasty = LOOP.model_copy(update={"steps": 25, "optimizer": OptimizerConfig(lr=1e-3, warmup_steps=0)})
    drifts = []
    for anchor in (0.0, 10.0):
        config = align_config(sample, loop=hasty, anchor=anchor)
        drifts.append(
            _log(chain, align(chain.checkpoint, encoded, chain.words(encoded), config, chain.context()))[-1][
                "winner_drift"
            ]
        )
    assert drifts[1] < drifts[0]


def _cached(sample: SampleConfig, precision: str, **changes: Any) -> AlignConfig:
    loop = LOOP.model_copy(update={"precision": precision})
    return align_config(sample, loop=loop, reference_draws=2, beta=5000.0, **changes)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_reference_is_asked_in_the_precision_of_the_training(
    chain: Chain, encoded: ArtifactRef, sample, precision: str
) -> None:
    """At the paper's strength of preference a loss of ln 2 says that both sides were computed alike."""
    config = _cached(sample, precision)
    assert config.reference is not None
    asked = reference(chain.checkpoint, encoded, chain.words(encoded), config.reference, chain.context())
    first = _log(chain, align(chain.checkpoint, encoded, chain.words(encoded), config, chain.context(), asked))[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-3)


def test_a_reference_of_another_precision_is_refused(chain: Chain, encoded: ArtifactRef, sample) -> None:
    exact, rounded = _cached(sample, "fp32"), _cached(sample, "bf16")
    assert exact.reference is not None
    asked = reference(chain.checkpoint, encoded, chain.words(encoded), exact.reference, chain.context())
    with pytest.raises(ConfigError, match=r"was asked with config .*and this training needs .*'precision': 'bf16'"):
        align(chain.checkpoint, encoded, chain.words(encoded), rounded, chain.context(), asked)
    with pytest.raises(ConfigError, match="was asked with seed"):
        align(
            chain.checkpoint,
            encoded,
            chain.words(encoded),
            exact,
            replace(chain.context(), seed=chain.context().seed + 1),
            asked,
        )
    with pytest.raises(ConfigError, match="without reference_draws"):
        align(chain.checkpoint, encoded, chain.words(encoded), align_config(sample), chain.context(), asked)


def test_a_cached_reference_wants_a_precision_by_name_which_is_in_its_name(sample) -> None:
    with pytest.raises(ValidationError, match="with reference_draws say fp32, tf32 or bf16"):
        _cached(sample, "auto")
    _cached(sample, "auto", objective="sft")  # which asks no reference
    exact, rounded = _cached(sample, "fp32").reference, _cached(sample, "bf16").reference
    assert exact is not None
    assert rounded is not None
    assert "precision" not in exact.content(), "references of before keep their names"
    assert rounded.content() == exact.content() | {"precision": "bf16"}


def test_the_control_has_the_objective_of_pretraining(chain: Chain, encoded: ArtifactRef, sample) -> None:
    launch = LaunchConfig(accumulate=2)
    wide = MaskLaw(mean=1.0, std=0.5, low=0.05)  # of few tokens a narrow law hides equally many at every quantile
    plain = align_config(sample, objective="sft", launch=launch, masks=wide)
    settings = plain.model_dump(exclude={"mask_ratios", "time_power"})
    coarse, mixed = AlignConfig(**settings, time_power=0.5), AlignConfig(**settings, mask_ratios=2)
    assert coarse.content() == plain.content() | {"time_power": 0.5}
    losses = [
        _log(chain, align(chain.checkpoint, encoded, chain.words(encoded), one, chain.context()))[0]["loss"]
        for one in (plain, coarse, mixed)
    ]
    assert len({round(loss, 6) for loss in losses}) == 3


def test_texts_of_another_encoder_than_the_students_are_refused(chain: Chain, encoded: ArtifactRef, sample) -> None:
    other = TextsConfig(encoder=WordsConfig(dim=16, context=1))
    foreign = texts(chain.store.open(encoded).parent("pairs"), other, chain.context())
    with pytest.raises(ConfigError, match=r"was made with .*, the student knows texts of .*; make them with that"):
        align(chain.checkpoint, encoded, foreign, align_config(sample), chain.context())
    with pytest.raises(ConfigError, match="6 of 6 rows have no text"):
        align(chain.checkpoint, encoded, chain.texts, align_config(sample), chain.context())


def test_more_mask_ratios_than_microbatches_are_refused(chain: Chain, encoded: ArtifactRef, sample) -> None:
    with pytest.raises(ConfigError, match=r"^align.mask_ratios is 2, but a step has 1 microbatches"):
        align(chain.checkpoint, encoded, chain.words(encoded), align_config(sample, mask_ratios=2), chain.context())
