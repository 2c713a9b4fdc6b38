"""Stage `pair`: pairs of stored images by stored scores; every image is accounted for, and none is opened."""

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.generators.sampler import Sampler
from lightgen.generators.scenes import ScenesConfig
from lightgen.scorers.config import AnyScorer
from lightgen.scorers.scenes import DETECTIONS, ScenesDetectorConfig
from lightgen.scorers.vlm import VlmScorerConfig
from lightgen.seeds import derive_seed
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.stages.pair import PairConfig, pair
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.pixels import decode_image, encode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.vlm.packs import STANDARD
from lightgen.vlm.qwen import TransformersVlmConfig
from lightgen.work import Context
from schemas.ref import ArtifactRef
from tests.lightgen.conftest import Chain
from tests.lightgen.sealed import Row, image, images, noise, scores

THING: dict[str, Any] = {"class": "circle", "color": "red", "score": 0.95, "box": [8, 8, 24, 24]}
RIGHT: Row = {"detections": json.dumps([THING])}
WRONG: Row = {"detections": json.dumps([THING | {"color": "blue"}])}
UNCLEAR: Row = {"unscored": "judge_no_json", "unscored_detail": "it said nothing"}
JUDGE: AnyScorer = ScenesDetectorConfig()


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def given(
    store: Store, name: str, answers: list[Row], each: int = 1, n_shards: int = 1
) -> tuple[ArtifactRef, ArtifactRef]:
    """Images of a generator with these answers of the judge, `each` of them for a prompt, and their scores."""
    rows = [
        image(
            f"{name} {place}", encode_image(noise(place, 8), "png"), "a red circle", prompt_id=f"p{place // each:03d}",
            index=place % each, generator=name,
        )
        for place in range(len(answers))
    ]  # fmt: skip
    drawn = images(store, rows, n_shards)
    by_id = {row["id"]: answer for (row, _), answer in zip(rows, answers, strict=True)}
    return drawn, scores(store, drawn, by_id, DETECTIONS)


def against_teacher(store: Store, loser: list[Row], winner: list[Row], **settings: Any):
    (students, student_scores), (teachers, teacher_scores) = given(store, "s", loser), given(store, "t", winner)
    config = PairConfig(judge=JUDGE, **settings)
    return store.open(pair([students, teachers], [student_scores, teacher_scores], config, Context(store)))


@pytest.mark.parametrize(
    ("winner", "loser", "reason"),
    [
        (RIGHT, WRONG, None),
        (RIGHT, RIGHT, "loser_right"),
        (WRONG, RIGHT, "winner_wrong"),
        (WRONG, WRONG, "both_wrong"),
        (RIGHT, UNCLEAR, "judge_no_json"),
        (UNCLEAR, WRONG, "judge_no_json"),
    ],
)
def test_only_a_right_winner_over_a_wrong_loser_is_kept(
    store: Store, winner: Row, loser: Row, reason: str | None
) -> None:
    version = against_teacher(store, [loser], [winner])
    assert (version.rows, version.reject_reasons) == ((0, {reason: 1}) if reason else (1, {}))


def test_every_row_is_kept_or_refused_with_both_scores(store: Store) -> None:
    version = against_teacher(store, [WRONG, RIGHT, WRONG, RIGHT], [RIGHT] * 4)
    rows, rejects = version.table().to_pylist(), version.rejects().to_pylist()
    assert len({row["id"] for row in [*rows, *rejects]}) == 4
    for row in rows:
        assert (row["winner_score"], row["winner_generator"], row["loser_generator"]) == (1.0, "teacher", "student")
        assert row["loser_score"] == 0.0
    assert [one["reason"] for one in rejects] == ["loser_right"] * 2
    for one in rejects:
        row = json.loads(one["row"])
        assert (row["winner_score"], row["loser_score"]) == (1.0, 1.0)
        assert one["detail"] == "winner: right, score 1; loser: right, score 1"


def test_with_a_gap_scores_decide_and_not_right_or_wrong(store: Store) -> None:
    two = json.dumps([THING, THING | {"class": "square", "color": None}])
    assert against_teacher(store, [WRONG], [{"detections": two}], gap=0.5).rows == 1
    assert against_teacher(store, [RIGHT], [WRONG], gap=0.5).reject_reasons == {"winner_worse": 1}


def test_right_samples_win_over_wrong_ones_and_every_pair_is_accounted_for(store: Store) -> None:
    answers = [RIGHT, WRONG, RIGHT, WRONG, WRONG, WRONG, RIGHT, RIGHT, RIGHT, RIGHT, RIGHT, WRONG, WRONG, UNCLEAR]
    drawn, judged = given(store, "s", [*answers, *[RIGHT] * 4], each=6, n_shards=2)
    config = PairConfig(judge=JUDGE, winner="student", samples_per_prompt=6)
    version, source = store.open(pair([drawn], [judged], config, Context(store))), store.open(drawn)
    assert version.n_shards == source.n_shards == 2
    rows = version.table().to_pylist()
    by_id = {row["id"]: row for row in store.open(judged).table().to_pylist()}
    assert rows
    for row in rows:
        assert by_id[row["winner_id"]]["detections"] == RIGHT["detections"]
        assert by_id[row["loser_id"]]["detections"] == WRONG["detections"]
        assert by_id[row["winner_id"]]["prompt_id"] == by_id[row["loser_id"]]["prompt_id"] == row["prompt_id"]
    used = [row[side] for row in rows for side in ("winner_id", "loser_id")]
    assert len(set(used)) == len(used), "a sample was used twice"
    assert set(version.reject_reasons) <= {"too_few_right", "too_few_wrong", "judge_no_json"}
    assert version.reject_reasons


def test_a_judges_answers_pass_by_rules_and_their_mean_is_the_score(store: Store) -> None:
    """Each question has a least mark of its own; the score stays what it is."""
    good = dict.fromkeys(STANDARD, 8) | {"answer": "{}"}
    marks = [good | {"match": 4}, good | {"sharp": 5, "safe": 7}, good]
    rows = [image(str(place), encode_image(noise(place, 8), "png"), index=place, prompt_id="p") for place in range(3)]
    drawn = images(store, rows)
    by_id = {row["id"]: answer for (row, _), answer in zip(rows, marks, strict=True)}
    judge = VlmScorerConfig(model=TransformersVlmConfig(revision="0" * 40), mode="json")
    judged = scores(store, drawn, by_id, judge.ANSWERS)
    config = PairConfig(judge=judge, winner="student", samples_per_prompt=2)
    (row,) = store.open(pair([drawn], [judged], config, Context(store))).table().to_pylist()
    assert (row["winner_id"], row["loser_id"]) == (rows[1][0]["id"], rows[0][0]["id"])
    assert row["winner_score"] == row["loser_score"] == pytest.approx(44 / 60)
    lax = config.model_copy(update={"passes": (config.rules[0],)})
    assert store.open(pair([drawn], [judged], lax, Context(store))).reject_reasons == {"too_few_wrong": 1}


def test_probabilities_of_both_polarities_pass_by_rules_on_raw_and_derived_columns(store: Store) -> None:
    ways = [f"{name}_{way}" for name in ("sharp", "match") for way in ("asked", "denied")]
    answers = [(0.9, 0.2, 0.9, 0.1), (0.9, 0.2, 0.3, 0.8), (0.9, 0.9, 0.8, 0.1), (0.7, 0.4, 0.2, 0.1)]
    rows = [image(str(place), encode_image(noise(place, 8), "png"), index=place, prompt_id="p") for place in range(4)]
    drawn = images(store, rows)
    by_id = {row["id"]: dict(zip(ways, given, strict=True)) for (row, _), given in zip(rows, answers, strict=True)}
    judge = VlmScorerConfig.model_validate({"questions": ["sharp", "match"], "model": {"kind": "transformers"}})
    judged = scores(store, drawn, by_id, judge.ANSWERS)
    config = PairConfig(judge=judge, winner="student", samples_per_prompt=4)
    assert [rule.column for rule in config.rules] == ["sharp", "match"]
    assert list(config.problems()) == []
    found = store.open(pair([drawn], [judged], config, Context(store))).table().to_pylist()
    assert [(row["winner_id"], row["loser_id"]) for row in found] == [
        (rows[0][0]["id"], rows[1][0]["id"]),
    ] + [(rows[2][0]["id"], rows[3][0]["id"])] * (len(found) - 1)  # fmt: skip
    assert found[0]["winner_score"] == pytest.approx((0.85 + 0.9) / 2)
    agreeing = {"passes": [{"column": "sharp_split", "most": 0.5}, {"column": "match_asked", "least": 0.5}]}
    strict = PairConfig.model_validate(config.model_dump() | agreeing)
    (row,) = store.open(pair([drawn], [judged], strict, Context(store))).table().to_pylist()
    assert row["winner_id"] == rows[0][0]["id"]
    wrong = PairConfig.model_validate(config.model_dump() | {"passes": [{"column": "sharpness", "least": 5}]})
    (problem,) = wrong.problems()
    assert (problem.where, "no sharpness" in problem.what) == ("passes", True)


def test_no_image_is_opened(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightgen.storage.pixels.decode_image", lambda data: pytest.fail("an image was decoded"))
    monkeypatch.setattr("lightgen.storage.version.Version.samples", lambda *_: pytest.fail("a tar was read"))
    monkeypatch.setattr("lightgen.storage.version.Version.member", lambda *_: pytest.fail("a tar was read"))
    assert against_teacher(store, [WRONG] * 3, [RIGHT] * 3).rows == 3


def test_what_pairs_are_made_of_must_suit_the_winner(store: Store) -> None:
    (student, students), (teacher, teachers) = given(store, "s", [WRONG]), given(store, "t", [RIGHT])
    own = PairConfig(judge=JUDGE, winner="student", samples_per_prompt=2)
    with pytest.raises(ConfigError, match=r"pair\.winner is student: give images and scores of student$"):
        pair([student, teacher], [students, teachers], own, Context(store))
    with pytest.raises(ConfigError, match=r"pair\.winner is teacher: give images and scores of student and teacher"):
        pair([student], [students], PairConfig(judge=JUDGE), Context(store))
    with pytest.raises(ValidationError, match="must be even, not 3"):
        PairConfig(judge=JUDGE, winner="student", samples_per_prompt=3)
    with pytest.raises(StoreCorrupt, match="its rows are not those of images@"):
        pair([student, teacher], [teachers, students], PairConfig(judge=JUDGE), Context(store))
    with pytest.raises(ConfigError, match=r"pair\.judge is pixels, which says nothing of captions"):
        _ = PairConfig.model_validate({"judge": {"kind": "pixels"}}).how


def test_images_that_are_sharded_otherwise_are_refused_and_none_is_passed_over(store: Store) -> None:
    (student, students), (teacher, teachers) = given(store, "s", [WRONG] * 4), given(store, "t", [RIGHT] * 4, 1, 2)
    with pytest.raises(ConfigError, match=r"1 shards.*2 shards"):
        pair([student, teacher], [students, teachers], PairConfig(judge=JUDGE), Context(store))


def test_the_loser_is_what_the_student_drew_and_the_teacher_passes_its_judge(chain: Chain, sample) -> None:
    """The whole way of a recipe: both draw the prompts, a judge scores, rules pair."""
    config, context = PairConfig(judge=JUDGE, sample=sample), chain.context(seed=9)
    made = config.generators(GenerateConfig(generator=ScenesConfig(), size_px=32, format="png"))
    assert list(made) == ["student", "teacher"]
    drawn = [
        generate(chain.prompts, made["student"], context, chain.checkpoint),
        generate(chain.prompts, made["teacher"], context),
    ]
    judged = [score(one, ScoreConfig(scorer=JUDGE), context) for one in drawn]
    version, students = chain.store.open(pair(drawn, judged, config, context)), chain.store.open(drawn[0])
    assert "winner_wrong" not in version.reject_reasons
    assert version.rows + sum(version.reject_reasons.values()) == chain.prompts.rows
    rows = version.table().to_pylist()
    assert rows, "a student of six steps should lose"
    sampler = Sampler.from_checkpoint(chain.store.open(chain.checkpoint), chain.store)
    for row in rows[:4]:
        seed = derive_seed(9, "generate", row["prompt_id"], 0)
        expected = sampler.images([row["caption"]], [seed], sample)[0]
        pixels = decode_image(students.member(row["loser_id"], "png"))
        assert isinstance(pixels, np.ndarray)
        # Rounding of a product in another batch; no two of the drawn pictures are this near.
        assert abs(pixels.astype(int) - expected).max() <= 1
    assert pair(drawn, judged, config, context) == version.ref


def test_a_student_that_is_never_right_gives_no_pair_of_its_own(chain: Chain, sample) -> None:
    config = PairConfig(judge=JUDGE, winner="student", samples_per_prompt=2, sample=sample)
    context = chain.context(seed=9)
    drawn = generate(chain.prompts, config.generators(None)["student"], context, chain.checkpoint)
    judged = score(drawn, ScoreConfig(scorer=JUDGE), context)
    version = chain.store.open(pair([drawn], [judged], config, context))
    assert (version.rows, version.reject_reasons) == (0, {"too_few_right": chain.prompts.rows})


def test_where_the_teacher_wins_the_recipe_must_say_how_it_draws() -> None:
    with pytest.raises(ConfigError, match="give generate as settings"):
        PairConfig(judge=JUDGE).generators(None)
