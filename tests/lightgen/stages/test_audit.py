"""Stage `audit`: judges of known worth are measured within the intervals, and what a bound asks for is refused."""

import math
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pyarrow as pa
import pytest
from pydantic import ValidationError

from lightgen.errors import AuditRefused, ConfigError, NotMade
from lightgen.evaluation.damage import PROBES
from lightgen.scorers.scenes import ScenesDetectorConfig
from lightgen.stages.audit import AuditConfig, audit, read_audit
from lightgen.stages.pair import PairConfig, pair
from lightgen.stages.probe import ProbeConfig, probe
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context
from schemas import scores as scores_schema
from schemas.audit import Audit, Figure
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import _shard, images, scores, seal
from tests.lightgen.stages.audited import MATCH, World, world

QUICK = AuditConfig(resamples=200)


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def audited(given: World, config: AuditConfig = QUICK, **parents: ArtifactRef) -> Audit:
    """What an audit finds; `held_out_x` stands for held-out-x."""
    named = {"pairs": given.pairs, **{name.replace("_x", "-x").replace("held_", "held-"): ref
                                      for name, ref in parents.items()}}  # fmt: skip
    return read_audit(given.store.open(audit(named, config, Context(given.store))))


def figure(found: Audit, name: str, group: str = "") -> Figure:
    (one,) = [one for one in found.figures if (one.name, one.group) == (name, group)]
    return one


# --- a judge of known worth -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "accuracy", [pytest.param(0.55, marks=pytest.mark.long), 0.7, pytest.param(0.95, marks=pytest.mark.long)]
)
def test_a_judge_of_known_accuracy_is_measured_within_its_interval(tmp_path, accuracy: float) -> None:
    """Verdicts on single images are flipped by a coin; a pair is right where neither is, as one flip makes a tie.

    Null control: an audit that takes the judge's own choices for labels says 1 of every judge.
    """
    often = 1 - math.sqrt(accuracy)
    held = fooled = 0
    for seed in range(20):
        given = world(open_or_create(str(tmp_path / str(seed))), 150, seed, pixels=False)
        answers = given.flipped(often, seed)
        main = given.judged(answers)
        one = figure(audited(given, held_out_x=main, human=given.true_labels()), "accuracy")
        held += one.low <= accuracy <= one.high
        assert one.n == 150
        assert one.high - one.low < 0.17
        if seed < 5:
            own = {row["id"]: {"ada": choice} for row in given.rows if (choice := chosen(row, answers)) is not None}
            copied = figure(audited(given, held_out_x=main, human=given.labels(own)), "accuracy")
            fooled += copied.low <= accuracy <= copied.high
    assert held >= 17, "the interval of 95 % holds the truth too seldom"
    assert fooled == 0, "labels that are the judge's own are not found out"


def chosen(row: Mapping[str, str], answers: Mapping[str, float]) -> float | None:
    """What the judge would vote; None for a tie."""
    lead = answers[row["winner_id"]] - answers[row["loser_id"]]
    return (1.0 if lead > 0 else 0.0) if abs(lead) > QUICK.tie else None


# --- figures ----------------------------------------------------------------------------------------------------------


def test_the_scene_worlds_detector_passes_its_probes_and_a_judge_that_sees_nothing_does_not(store: Store) -> None:
    given = world(store, 40)
    context, detector = Context(store), ScoreConfig(scorer=ScenesDetectorConfig())
    rows = [row for row in given.rows if row["winner_id"] in given.right]
    right = seal(store, "pairs", [_shard(rows, store.open(given.pairs).table(0).schema)], [given.drawn])
    shown = probe(right, [given.drawn], ProbeConfig(), context)
    parents = {
        "pairs": right, "held-out-teacher": score(given.drawn, detector, context), "probe_images": shown,
        "probes": score(shown, detector, context),
    }  # fmt: skip
    found = read_audit(store.open(audit(parents, AuditConfig(resamples=200), context)))
    assert found.judge == "scenes"
    groups = [one.group for one in found.figures if one.name == "probe"]
    assert groups == [*PROBES, "text_ignored"]
    for name in ("same", "shuffled_caption", "mirrored", "text_ignored"):
        one = figure(found, "probe", name)
        assert (one.value, one.high) == (1, 1)
        assert one.low > 0.7
    assert figure(found, "probe", "same").n == len(rows)
    assert figure(found, "scored", "probes").value == 1
    blind = dict.fromkeys(store.open(shown).table(columns=["id"])["id"].to_pylist(), 0.5)
    unseeing = scores(store, shown, {id: {"match_asked": yes, "match_denied": yes} for id, yes in blind.items()}, MATCH)
    parents |= {"held-out-teacher": given.judged(dict.fromkeys(given.truth(), 0.5)), "probes": unseeing}
    found = read_audit(store.open(audit(parents, AuditConfig(resamples=200), context)))
    assert figure(found, "probe", "same").value == 1
    for name in PROBES[1:]:
        assert figure(found, "probe", name).value == 0, "who sees no difference does not tell it"


def test_pairs_of_stage_pair_are_probed_and_audited(store: Store) -> None:
    """The whole way: two generators, a detector, pairs, probes of the winners, and their audit."""
    given, context = world(store, 24, task="colors"), Context(store, 5)
    detector = ScoreConfig(scorer=ScenesDetectorConfig())
    drawn = store.open(given.drawn)
    sides = []
    for good in (False, True):
        rows = [
            ({**row, "index": 0}, drawn.member(row["id"], "png"))
            for row in drawn.table().to_pylist()
            if (row["id"] in given.right) == good
        ]
        sides.append(images(store, rows, 3))
    judged = [score(one, detector, context) for one in sides]
    pairs = pair(sides, judged, PairConfig(judge=ScenesDetectorConfig()), context)
    assert pairs.rows > 12
    shown = probe(pairs, sides, ProbeConfig(probes=("same", "shuffled_caption"), max_reject_fraction=1.0), context)
    parents = {"pairs": pairs, "held-out-student": judged[0], "held-out-teacher": judged[1], "probe_images": shown,
               "probes": score(shown, detector, context)}  # fmt: skip
    config = AuditConfig(least_probe={"same": 1.0, "shuffled_caption": 0.8})
    found = read_audit(store.open(audit(parents, config, context)))
    assert found.vouched
    assert figure(found, "acceptance").n == 24


def test_a_judge_that_obeys_what_is_written_in_a_picture_is_caught(store: Store) -> None:
    given = world(store, 30)
    config = ProbeConfig(probes=("shuffled_caption", "text_in_image"))
    shown = probe(given.pairs, [given.drawn], config, Context(store))
    ids = store.open(shown).table(columns=["id", "generator"]).to_pylist()
    for obeys in (True, False):
        yes = {row["id"]: 0.95 if obeys and row["generator"] == "text_in_image" else 0.1 for row in ids}
        said = {id: {"match_asked": one, "match_denied": 1 - one} for id, one in yes.items()}
        parents = {"probes": scores(store, shown, said, MATCH), "probe_images": shown}
        found = audited(given, held_out_x=given.judged(given.truth()), **parents)
        assert figure(found, "probe", "text_ignored").value == (0 if obeys else 1)


def test_two_judges_and_two_orders_and_two_polarities_agree_as_often_as_they_were_made_to(store: Store) -> None:
    given = world(store, 60, pixels=False)
    answers = given.truth()
    other = {id: 0.5 if row["winner_id"] == id or row["loser_id"] == id else answers[id]
             for row in given.rows[:6] for id in (row["winner_id"], row["loser_id"])}  # fmt: skip
    other = answers | other
    for row in given.rows[6:18]:
        other |= {row["winner_id"]: answers[row["loser_id"]], row["loser_id"]: answers[row["winner_id"]]}
    unsure = {id: (0.9 if place < 30 else 1 - answers[id]) for place, id in enumerate(answers)}
    main = given.judged(answers, unsure)
    orders = [(0.9, 0.8)] * 30 + [(0.9, 0.2)] * 20 + [(0.1, 0.3)] * 10
    found = audited(given, held_out_x=main, second_x=given.judged(other), compare=given.compared(orders))
    assert figure(found, "agreement").value == pytest.approx(42 / 60)
    assert 0.2 < figure(found, "kappa").value < 0.7
    assert figure(found, "order").value == pytest.approx(40 / 60)
    assert figure(found, "compare").value == pytest.approx(30 / 60)
    wrong = sum(answers[id] > 0.5 for place, id in enumerate(answers) if place < 30)
    assert figure(found, "polarity", "match").value == pytest.approx((120 - wrong) / 120)
    shown = [one for one in found.examples if one.shown == "disagreement"]
    assert len(shown) == 6
    assert all("winner" not in one.others.values() or len(set(one.others.values())) > 1 for one in shown)


def test_scores_that_hang_on_the_length_of_captions_are_told(store: Store) -> None:
    given = world(store, 60, task="colors", pixels=False)
    lengths = {row[f"{side}_id"]: len(row["caption"]) for row in given.rows for side in ("winner", "loser")}
    random = Random(0)
    by_length = {id: length / 100 for id, length in lengths.items()}
    by_chance = {id: random.random() for id in lengths}
    found = audited(given, held_out_x=given.judged(by_length))
    assert figure(found, "bias", "caption length").value == pytest.approx(1)
    one = figure(audited(given, held_out_x=given.judged(by_chance)), "bias", "caption length")
    assert one.low < 0 < one.high


def test_people_are_measured_against_each_other_and_their_majority_counts(store: Store) -> None:
    given = world(store, 40, pixels=False)
    truth = {row["id"]: float(row["winner_id"] in given.right) for row in given.rows}
    votes = {id: {"ada": one, "bob": one, "eve": 1 - one} for id, one in truth.items()}
    votes[given.rows[0]["id"]] = {"ada": 1.0, "bob": 0.0}
    found = audited(given, held_out_x=given.judged(given.truth()), human=given.labels(votes))
    assert figure(found, "accuracy").value == 1
    assert figure(found, "accuracy").n == 39, "whom people cannot tell apart nobody can be wrong about"
    assert found.raters == ["ada", "bob", "eve"]
    assert figure(found, "alpha").value < 0
    alone = audited(given, held_out_x=given.judged(given.truth()), human=given.true_labels())
    assert [one.name for one in alone.figures if one.name == "alpha"] == []


def test_what_became_of_candidates_is_told_by_source_and_host(store: Store) -> None:
    given = world(store, 8, pixels=False)
    plain = store.open(given.pairs).table(0).schema
    schema = plain if "host" in plain.names else plain.append(pa.field("host", pa.string()))
    kept = pa.Table.from_pylist([{**row, "host": "<b>a.org" if place < 6 else "b.org"}
                                 for place, row in enumerate(given.rows)], schema=schema)  # fmt: skip
    lost = [Reject(f"{place}", "tie", "", {"host": "b.org"}) for place in range(6)]
    pairs = seal(store, "pairs", [ShardOutput(kept, 14, schema, rejects=lost)], [given.drawn])
    found = audited(replace(given, pairs=pairs), held_out_x=given.judged(given.truth()))
    told = {(one.name, one.group): (one.value, one.n) for one in found.figures if "acceptance" in one.name}
    assert told == {
        ("acceptance", ""): (8 / 14, 14), ("acceptance by host", "b.org"): (0.25, 8),
        ("acceptance by host", "<b>a.org"): (1, 6),
    }  # fmt: skip


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_judge_below_a_bound_is_refused_with_figure_interval_bound_and_mend(store: Store) -> None:
    given = world(store, 60, pixels=False)
    parents = {"held_out_x": given.judged(given.flipped(0.4, 1)), "human": given.true_labels()}
    with pytest.raises(AuditRefused) as caught:
        audited(given, AuditConfig(least_accuracy=0.9, least_order=0.5, most_bias=0.9), **parents)
    told = str(caught.value)
    one = figure(audited(given, **parents), "accuracy")
    assert f"accuracy is {one.value:.3f} ({one.low:.3f} to {one.high:.3f}, n 60)" in told
    assert "least_accuracy asks for at least 0.9" in told
    assert "order was not measured, and least_order asks for it: let a model compare" in told
    assert "bias" not in told
    assert "lightgen gallery audit@" in told
    version = store.open("audit@latest")
    refused = AuditConfig(least_accuracy=0.9)
    named = {"pairs": given.pairs, "held-out-x": parents["held_out_x"], "human": parents["human"]}
    assert version.rows
    with pytest.raises(NotMade):
        audit(named, refused, Context(store, find_only=True))
    with pytest.raises(AuditRefused):
        audit(named, refused, Context(store))
    with pytest.raises(AuditRefused, match="least_accuracy"):
        audit(named, refused, Context(store))
    assert not read_audit(store.open(audit(named, refused, Context(store, find_only=True)))).vouched
    loose = read_audit(store.open(audit(named, AuditConfig(least_accuracy=0.1), Context(store))))
    assert loose.vouched
    (row,) = [one for one in loose.figures if one.name == "accuracy"]
    assert (row.bound, row.passed) == (0.1, True)


def test_each_bound_is_on_what_it_says_and_one_that_nothing_can_be_said_of_is_refused(store: Store) -> None:
    given = world(store, 30, pixels=False)
    main = given.judged(given.truth())
    for name in AuditConfig.BOUNDS:
        value = {"blurred": 0.5} if name == "least_probe" else 0.5
        bounds = AuditConfig.model_validate({name: value})
        key = next(iter(bounds.bounds))
        if name in ("least_polarity", "most_bias"):
            assert audited(given, bounds, held_out_x=main).vouched
            continue
        with pytest.raises(AuditRefused, match=f"was not measured, and {key} asks for it"):
            audited(given, bounds, held_out_x=main)
    with pytest.raises(ValidationError, match="no probe is called sideways"):
        AuditConfig(least_probe={"sideways": 1.0})
    assert not audited(given, held_out_x=main).bounded
    assert AuditConfig(resamples=200).content() == {
        "tie": 0.02,
        "verdict": None,
        "second_verdict": None,
        "resamples": 200,
    }


def test_parents_must_fit_together(store: Store) -> None:
    given = world(store, 6, pixels=False)
    main, context = given.judged(given.truth()), Context(store)
    for parents in (
        {"pairs": given.pairs},
        {"held-out-x": main},
        {"pairs": given.pairs, "held-out-x": main, "x": main},
    ):
        with pytest.raises(ConfigError, match="give pairs and held-out-<side>"):
            audit(parents, QUICK, context)
    both = {"pairs": given.pairs, "held-out-x": main}
    with pytest.raises(ConfigError, match="give both"):
        audit({**both, "probes": main}, QUICK, context)
    schema = store.open(given.pairs).table(0).schema
    cut = seal(store, "pairs", [_shard(given.rows[:3], schema), _shard(given.rows[3:], schema)], [given.drawn])
    with pytest.raises(ConfigError, match="has 2 shards and held-out-x"):
        audit({**both, "pairs": cut}, QUICK, context)
    nothing = seal(store, "scores", [_shard([], scores_schema.schema(pa.schema([pa.field("sum", pa.int64())])))])
    with pytest.raises(ConfigError, match="says nothing of captions"):
        audit({"pairs": given.pairs, "held-out-x": nothing}, QUICK, context)
