"""Pairs: which are kept and why, bytes of the winner untouched, the loser exact, and no luck of the batch."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from lightgen.errors import ConfigError
from lightgen.generators.sampler import Sampler
from lightgen.scorers.judge import load_judge
from lightgen.scorers.verdict import Verdict, unjudged
from lightgen.seeds import derive_seed
from lightgen.stages.pair import PairConfig, own_shard, pair, pair_shard, reject_reason
from lightgen.storage.pixels import decode_image

GOOD, BAD = Verdict(1.0, True, {"right": True}), Verdict(0.2, False, {"right": False}, "no circle")


@pytest.fixture(scope="module")
def config(sample):
    return PairConfig.model_validate({"judge": {"kind": "scenes"}, "sample": sample, "device": "cpu"})


@pytest.fixture(scope="module")
def prompts(chain):
    """What the teacher's images were drawn from."""
    (ref,) = chain.store.open(chain.images).parents
    return ref


@pytest.mark.parametrize(
    ("winner", "loser", "reason"),
    [
        (GOOD, BAD, None),
        (GOOD, GOOD, "loser_right"),
        (BAD, GOOD, "winner_wrong"),
        (BAD, BAD, "both_wrong"),
        (GOOD, unjudged("judge_no_json", {}), "judge_no_json"),
        (unjudged("judge_no_json", {}), BAD, "judge_no_json"),
    ],
)
def test_only_a_right_winner_over_a_wrong_loser_is_kept(winner, loser, reason):
    assert reject_reason(winner, loser) == reason


class Coin:
    """A judge that finds every image of the teacher right, and of the student those of even captions."""

    def identity(self):
        return {"kind": "coin"}

    def judge(self, captions, images):
        flat = [len(np.unique(image.reshape(-1, 3), axis=0)) for image in images]
        return [
            GOOD if colours < 250 or len(caption) % 2 == 0 else BAD
            for caption, colours in zip(captions, flat, strict=True)
        ]


class Painter:
    """Stands in for a student: noise that its seed decides."""

    def images(self, captions, seeds, config):
        return np.stack([np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8) for seed in seeds])


def test_every_row_is_kept_or_refused_with_both_verdicts(chain, config):
    source = chain.store.open(chain.images)
    twice = config.model_copy(update={"samples_per_prompt": 2})
    made = pair_shard(source, 0, Painter(), Coin(), twice, seed=5)
    assert made.rows_in == 2 * source.table(0).num_rows == made.table.num_rows + len(made.rejects)
    kept = made.table.to_pylist()
    assert kept
    assert all(len(row["caption"]) % 2 == 1 for row in kept)
    assert {reject.reason for reject in made.rejects} == {"loser_right"}
    for reject in made.rejects:
        assert json.loads(reject.row["winner_verdict"]) == json.loads(reject.row["loser_verdict"]) == {"right": True}
    assert len({row["id"] for row in kept} | {reject.id for reject in made.rejects}) == made.rows_in


def test_the_batch_changes_nothing(chain, config):
    source = chain.store.open(chain.images)
    runs = [
        pair_shard(source, 0, Painter(), Coin(), config.model_copy(update={"batch_size": size}), 5) for size in (1, 5)
    ]
    assert runs[0].table.equals(runs[1].table)
    assert runs[0].blobs == runs[1].blobs


def test_winner_bytes_pass_untouched_and_the_loser_is_what_the_student_drew(chain, config):
    ref = pair(chain.images, chain.checkpoint, config, chain.store, seed=9)
    version, images = chain.store.open(ref), chain.store.open(chain.images)
    assert version.n_shards == images.n_shards
    assert version.rows + sum(version.reject_reasons.values()) == images.rows
    rows = version.table().to_pylist()
    assert rows, "a student of six steps should lose"
    sampler = Sampler.from_checkpoint(chain.store.open(chain.checkpoint), chain.store)
    for row in rows[:4]:
        assert version.member(row["id"], f"winner.{row['winner_format']}") == images.member(row["winner_id"], "png")
        assert row["loser_seed"] == derive_seed(9, "pair", row["winner_id"], 0)
        drawn = sampler.images([row["caption"]], [row["loser_seed"]], config.sample)[0]
        with Image.open(io.BytesIO(version.member(row["id"], "loser.png"))) as image:
            # Rounding of a product in another batch; no two of the drawn pictures are this near.
            assert abs(np.asarray(image).astype(int) - drawn).max() <= 1
        assert json.loads(version.member(row["id"], "json"))["caption"] == row["caption"]
    assert pair(chain.images, chain.checkpoint, config, chain.store, seed=9) == ref


class Lot:
    """A judge that decides by the picture alone: some are right, some wrong, some unclear."""

    def identity(self):
        return {"kind": "lot"}

    def judge(self, captions, images):
        return [(GOOD, BAD, GOOD, BAD, unjudged("judge_no_json", {}))[int(image.sum()) % 5] for image in images]


def test_the_students_right_samples_win_over_its_wrong_ones_and_every_pair_is_accounted_for(chain, prompts, config):
    source = chain.store.open(prompts)
    own = config.model_copy(update={"winner": "student", "samples_per_prompt": 6})
    made = own_shard(source, 0, Painter(), Lot(), own, seed=5)
    assert made.rows_in == 3 * source.table(0).num_rows == made.table.num_rows + len(made.rejects)
    rows = made.table.to_pylist()
    assert {reject.reason for reject in made.rejects} <= {"too_few_right", "too_few_wrong", "judge_no_json"}
    assert made.rejects
    assert len({row["id"] for row in rows} | {reject.id for reject in made.rejects}) == made.rows_in
    drawn = {(row["prompt_id"], row[name]) for row in rows for name in ("winner_seed", "loser_seed")}
    assert len(drawn) == 2 * len(rows) > 0, "a sample was used twice"
    for row, members in zip(rows, made.blobs, strict=True):
        for side, verdict in (("winner", GOOD), ("loser", BAD)):
            expected = Painter().images([row["caption"]], [row[f"{side}_seed"]], own.sample)
            assert np.array_equal(decode_image(members[f"{side}.png"]), expected[0])
            assert Lot().judge([], expected) == [verdict]
            assert json.loads(row[f"{side}_verdict"]) == verdict.answer


def test_the_batch_changes_nothing_in_pairs_of_the_students_own(chain, prompts, config):
    source = chain.store.open(prompts)
    own = config.model_copy(update={"winner": "student", "samples_per_prompt": 4})
    runs = [own_shard(source, 0, Painter(), Lot(), own.model_copy(update={"batch_size": size}), 5) for size in (1, 100)]
    assert runs[0].table.equals(runs[1].table)
    assert runs[0].blobs == runs[1].blobs
    assert runs[0].rejects == runs[1].rejects


def test_a_student_that_is_never_right_gives_no_pair_of_its_own(chain, prompts, config):
    own = config.model_copy(update={"winner": "student", "samples_per_prompt": 2})
    version = chain.store.open(pair(prompts, chain.checkpoint, own, chain.store, seed=9))
    assert (version.rows, version.reject_reasons) == (0, {"too_few_right": prompts.rows})


def test_what_pairs_are_made_of_must_suit_the_winner(chain, prompts, config):
    own = config.model_copy(update={"winner": "student", "samples_per_prompt": 2})
    for drawn, settings in ((chain.images, own), (prompts, config)):
        with pytest.raises(ConfigError, match=f"pair.winner is {settings.winner}: pairs are made of"):
            pair(drawn, chain.checkpoint, settings, chain.store, seed=9)
    with pytest.raises(ValueError, match="must be even, not 3"):
        PairConfig.model_validate({"judge": {"kind": "scenes"}, "winner": "student", "samples_per_prompt": 3})


def test_the_scenes_judge_passes_the_teacher(chain, config):
    source = chain.store.open(chain.images)
    made = pair_shard(source, 0, Painter(), load_judge(config.judge, "cpu"), config, seed=5)
    assert "winner_wrong" not in {reject.reason for reject in made.rejects}
    assert made.table.num_rows == made.rows_in, "noise is never right"
