"""Pairs from scores: every pair made or refused with its reason, in any order of rows, and no image used for two."""

import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lightgen.decisions.pairing import CANDIDATES, PAIRS, Pairing, PairRules, make_pairs

TEACHER = PairRules(winner="teacher")
OWN = PairRules()
GRADED = PairRules(gap=0.25)
RIGHT, WRONG, UNCLEAR = (1.0, True, ""), (0.25, False, ""), (None, None, "judge_no_json")


def image(prompt: str, generator: str, index: int, verdict: tuple = RIGHT) -> dict:
    score, right, unscored = verdict
    return {
        "id": f"{prompt}-{generator}-{index}", "prompt_id": prompt, "caption": f"caption {prompt}", "index": index,
        "generator": generator, "host": f"{generator}.org", "source": "s", "score": score, "right": right,
        "unscored": unscored,
    }  # fmt: skip


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=CANDIDATES)


def paired(made: Pairing) -> list[tuple[str, str]]:
    return list(zip(made.pairs["winner_id"].to_pylist(), made.pairs["loser_id"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("winner", "loser", "reason"),
    [
        (RIGHT, WRONG, None),
        (RIGHT, RIGHT, "loser_right"),
        (WRONG, RIGHT, "winner_wrong"),
        (WRONG, WRONG, "both_wrong"),
        (RIGHT, UNCLEAR, "judge_no_json"),
        (UNCLEAR, WRONG, "judge_no_json"),
        ((None, None, ""), WRONG, "unscored"),
    ],
)
def test_only_a_right_winner_over_a_wrong_loser_is_kept(winner: tuple, loser: tuple, reason: str | None) -> None:
    made = make_pairs(table([image("p", "student", 0, loser), image("p", "teacher", 0, winner)]), TEACHER)
    assert [reject.reason for reject in made.rejects] == ([reason] if reason else [])
    assert paired(made) == ([] if reason else [("p-teacher-0", "p-student-0")])
    assert made.rows_in == 1


def test_every_loser_meets_its_teachers_image_and_both_scores_are_kept() -> None:
    rows = [image("p", "teacher", 0), *(image("p", "student", at, WRONG) for at in range(3)), image("q", "teacher", 0)]
    rows += [image("q", "student", 0, WRONG), image("q", "student", 1)]
    made = make_pairs(table(rows), TEACHER)
    assert paired(made) == [*(("p-teacher-0", f"p-student-{at}") for at in range(3)), ("q-teacher-0", "q-student-0")]
    assert made.pairs.schema == PAIRS
    assert {name: made.pairs[name][0].as_py() for name in PAIRS.names if name != "id"} == {
        "prompt_id": "p", "caption": "caption p", "winner_id": "p-teacher-0", "loser_id": "p-student-0",
        "winner_score": 1.0, "loser_score": 0.25, "winner_generator": "teacher", "loser_generator": "student",
        "margin": 0.75, "host": "teacher.org", "source": "s",
    }  # fmt: skip
    (reject,) = made.rejects
    assert (reject.reason, reject.detail) == ("loser_right", "winner: right, score 1; loser: right, score 1")
    assert (reject.row["winner_id"], reject.row["loser_id"]) == ("q-teacher-0", "q-student-1")


def test_several_images_of_the_teacher_share_the_losers() -> None:
    rows = [image("p", "teacher", at) for at in range(2)] + [image("p", "student", at, WRONG) for at in range(4)]
    winners = [winner for winner, _ in paired(make_pairs(table(rows), TEACHER))]
    assert winners == ["p-teacher-0", "p-teacher-1", "p-teacher-0", "p-teacher-1"]


def test_a_prompt_that_lacks_a_side_gives_no_pair_and_says_so() -> None:
    rows = [image("p", "teacher", 0), image("q", "student", 0, WRONG), image("q", "student", 1)]
    made = make_pairs(table(rows), TEACHER)
    assert [(reject.reason, reject.row["id"]) for reject in made.rejects] == [
        ("no_loser", "p-teacher-0"),
        ("no_winner", "q-student-0"),
        ("no_winner", "q-student-1"),
    ]


def test_right_samples_win_over_wrong_ones_in_order_of_the_samples() -> None:
    verdicts = [WRONG, RIGHT, WRONG, RIGHT, RIGHT, RIGHT]
    made = make_pairs(table([image("p", "student", at, one) for at, one in enumerate(verdicts)]), OWN)
    assert paired(made) == [("p-student-1", "p-student-0"), ("p-student-3", "p-student-2")]
    assert [(one.reason, one.detail) for one in made.rejects] == [("too_few_wrong", "of 6 samples 4 right, 2 wrong")]


@pytest.mark.parametrize(
    ("verdicts", "reasons"),
    [
        ([WRONG] * 4, ["too_few_right"] * 2),
        ([RIGHT] * 4, ["too_few_wrong"] * 2),
        ([RIGHT, WRONG, RIGHT, UNCLEAR], ["judge_no_json"]),
        ([RIGHT], ["too_few_wrong"]),
        ([RIGHT, WRONG, WRONG], []),
    ],
)
def test_each_pair_that_could_have_been_is_refused_once(verdicts: list[tuple], reasons: list[str]) -> None:
    made = make_pairs(table([image("p", "student", at, one) for at, one in enumerate(verdicts)]), OWN)
    assert [reject.reason for reject in made.rejects] == reasons
    assert made.rows_in == max(1, len(verdicts) // 2)


def test_with_a_gap_the_best_meets_the_worst_and_must_lead_by_it() -> None:
    scores = [0.5, 0.9, 0.6, 0.1, 0.55, 0.3]
    rows = [image("p", "student", at, (score, None, "")) for at, score in enumerate(scores)]
    made = make_pairs(table(rows), GRADED)
    assert paired(made) == [("p-student-1", "p-student-3"), ("p-student-2", "p-student-5")]
    assert [reject.reason for reject in made.rejects] == ["tie"]
    assert made.rejects[0].detail == "winner: no verdict, score 0.55; loser: no verdict, score 0.5"


def test_a_gap_between_narrow_floats_is_what_is_written() -> None:
    scores = pa.array([0.9, 0.8], pa.float32()).to_pylist()
    rows = [image("p", "student", at, (score, None, "")) for at, score in enumerate(scores)]
    assert make_pairs(table(rows), PairRules(gap=0.1)).pairs.num_rows == 1
    assert make_pairs(table(rows), PairRules(gap=0.11)).pairs.num_rows == 0


def test_with_a_gap_a_named_winner_must_lead_too_and_scores_that_are_no_numbers_are_none() -> None:
    scores = {"teacher": 0.6, "student": 0.2}
    rows = [image("p", name, 0, (score, None, "")) for name, score in scores.items()]
    worse = [image("q", "teacher", 0, (0.2, True, "")), image("q", "student", 0, (0.6, False, ""))]
    odd = [image("r", "teacher", 0, (float("nan"), True, "")), image("r", "student", 0, UNCLEAR)]
    made = make_pairs(table(rows + worse + odd), PairRules(winner="teacher", gap=0.4))
    assert paired(made) == [("p-teacher-0", "p-student-0")]
    assert [reject.reason for reject in made.rejects] == ["winner_worse", "unscored"]
    few = make_pairs(table([image("p", "student", at, UNCLEAR) for at in range(2)]), GRADED)
    assert [reject.reason for reject in few.rejects] == ["judge_no_json"]
    assert [one.reason for one in make_pairs(table([image("p", "x", 0)]), GRADED).rejects] == ["too_few_scores"]


PROMPTS = st.dictionaries(
    st.sampled_from("pqr"),
    st.lists(
        st.tuples(st.sampled_from(["student", "teacher"]), st.sampled_from([RIGHT, WRONG, (0.5, False, ""), UNCLEAR])),
        min_size=1,
        max_size=9,
    ),
)


@settings(max_examples=200)
@given(
    prompts=PROMPTS,
    rules=st.sampled_from([TEACHER, OWN, GRADED, PairRules(winner="teacher", gap=0.5)]),
    seed=st.integers(),
)
def test_pairs_and_rejects_add_up_and_neither_order_nor_the_other_prompts_matter(prompts, rules, seed) -> None:
    rows = [image(name, *one[:1], at, one[1]) for name, images in prompts.items() for at, one in enumerate(images)]
    made = make_pairs(table(rows), rules)
    mixed = random.Random(seed).sample(rows, len(rows))
    again = make_pairs(table(mixed), rules)
    assert (made.pairs, made.rejects) == (again.pairs, again.rejects)
    alone = [make_pairs(table([row for row in rows if row["prompt_id"] == name]), rules) for name in sorted(prompts)]
    assert paired(made) == [pair for one in alone for pair in paired(one)]
    assert made.rejects == [reject for one in alone for reject in one.rejects]
    ids = made.pairs["id"].to_pylist() + [reject.id for reject in made.rejects]
    assert (
        len(ids) == len(set(ids)) == made.rows_in == sum(map(expected_rows, prompts.values(), [rules] * len(prompts)))
    )
    used = Counter(loser for _, loser in paired(made)) + Counter(
        winner for winner, _ in paired(made) if rules.winner == "any"
    )
    assert all(times == 1 for times in used.values()), "an image stands in two pairs"


def expected_rows(images: list[tuple], rules: PairRules) -> int:
    if rules.winner == "any":
        return max(1, len(images) // 2)
    losers = sum(generator != "teacher" for generator, _ in images)
    return losers if 0 < losers < len(images) else len(images)


def test_no_images_make_no_pairs_and_rules_are_checked() -> None:
    assert make_pairs(table([]), OWN) == Pairing(PAIRS.empty_table(), [])
    with pytest.raises(ValidationError, match="greater than 0"):
        PairRules(gap=0)
    with pytest.raises(ValidationError, match="loser"):
        PairRules.model_validate({"loser": "student"})


def test_of_a_named_winners_images_the_best_meets_the_worst_sample() -> None:
    losers = {0: 0.5, 1: 0.1, 2: None, 3: 0.3}
    rows = [image("p", "links", at, (score, None, "")) for at, score in enumerate([0.7, 0.9])]
    rows += [image("p", "student", at, (score, None, "")) for at, score in losers.items()]
    made = make_pairs(table(rows), PairRules(winner="links", gap=0.25))
    assert paired(made) == [("p-links-1", "p-student-1"), ("p-links-0", "p-student-3"), ("p-links-1", "p-student-0")]
    assert [reject.reason for reject in made.rejects] == ["unscored"]


@pytest.mark.parametrize(("lead", "reason"), [(0.25, None), (0.2, "tie"), (-0.2, "tie"), (-0.25, "winner_worse")])
def test_a_lead_inside_the_band_is_a_tie_either_way_and_keeps_its_margin(lead: float, reason: str | None) -> None:
    rows = [image("p", "links", 0, (0.5 + lead, None, "")), image("p", "student", 0, (0.5, None, ""))]
    made = make_pairs(table(rows), PairRules(winner="links", gap=0.25))
    assert [reject.reason for reject in made.rejects] == ([reason] if reason else [])
    kept = [*made.pairs.to_pylist(), *(reject.row for reject in made.rejects)]
    assert [row["margin"] for row in kept] == [pytest.approx(lead)]


def test_of_a_prompts_pairs_those_of_the_largest_margins_stay() -> None:
    rows = [image("p", "links", 0, (0.9, None, ""))]
    rows += [image("p", "student", at, (score, None, "")) for at, score in enumerate([0.5, 0.1, 0.3])]
    made = make_pairs(table(rows), PairRules(winner="links", gap=0.25, per_prompt=2))
    assert {loser for _, loser in paired(made)} == {"p-student-1", "p-student-2"}
    (reject,) = made.rejects
    assert (reject.reason, reject.row["loser_id"]) == ("smaller_margin", "p-student-0")
    assert reject.detail == "margin 0.4; of 3 pairs of the prompt 2 are kept"
