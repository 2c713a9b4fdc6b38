"""Stage `verdicts`: each vote is counted once or refused with a reason, and people's names are only data."""

import csv
import json

import pytest

from lightgen.errors import ConfigError, InputChanged, InputCorrupt
from lightgen.stages.audit import AuditConfig, audit, read_audit
from lightgen.stages.verdicts import HEADER, VerdictsConfig, open, read_votes, verdicts
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context, Worker
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import _shard, seal
from tests.lightgen.stages.audited import world

NASTY = '<script>alert("x")</script> ,\u202e名'


@pytest.fixture
def csv_limit(request):
    """The longest value that csv reads, which is one for the whole process."""
    before = csv.field_size_limit(request.param)
    yield request.param
    csv.field_size_limit(before)


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def voted(store: Store, pairs: ArtifactRef, path, text: str | bytes, most: float = 1.0):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return store.open(verdicts(pairs, VerdictsConfig(path=str(path), max_reject_fraction=most), Context(store)))


def test_votes_are_shares_of_both_sides_in_the_shard_of_their_pair(store: Store, tmp_path) -> None:
    given = world(store, 4, pixels=False)
    schema = store.open(given.pairs).table(0).schema
    pairs = seal(store, "pairs", [_shard(given.rows[:1], schema), _shard(given.rows[1:], schema)], [given.drawn])
    first, second = given.rows[0]["id"], given.rows[2]["id"]
    lines = [f"{first},Winner,ada", f"{first[:8].upper()}, TIE ,bob", f"{second},loser,ada", "", f"{first},loser,eve"]
    version = voted(store, pairs, tmp_path / "votes.csv", "\n".join(["Pair,side, RATER", *lines]))
    assert (version.rows, version.reject_reasons, version.n_shards) == (4, {}, 2)
    assert version.plan.config["scorer"] == "human"
    mine, yours = version.table(0).to_pylist()
    assert (mine["pair_id"], mine["side"], mine["image_id"]) == (first, "winner", given.rows[0]["winner_id"])
    assert (mine["preferred"], mine["votes"]) == (0.5, 3)
    assert json.loads(mine["raters"]) == {"ada": 1, "bob": 0.5, "eve": 0}
    assert json.loads(yours["raters"]) == {"ada": 0, "bob": 0.5, "eve": 1}
    assert [row["preferred"] for row in version.table(1).to_pylist()] == [0, 1]


def test_every_vote_that_does_not_count_is_refused_with_its_line_and_reason(store: Store, tmp_path) -> None:
    given = world(store, 2, pixels=False)
    shared = [{**given.rows[0], "id": "abcdef01" + digit * 24} for digit in "01"]
    pairs = seal(store, "pairs", [_shard([*given.rows, *shared], store.open(given.pairs).table(0).schema)])
    id = given.rows[0]["id"]
    text = "\n".join([
        "pair\tside\trater", f"{id}\twinner\tada", f"{id}\twinner\tada", f"{id[:8]}\tloser\tada", "abcdef01\ttie\tada",
        f"{id[:7]}\ttie\tada", f"{'f' * 32}\ttie\tada", f"{id}\tboth\tada", f"{id}\ttie\t", f"{id}\ttie\t{'x' * 101}",
        f"{id}", "g\ttie\tada",
    ])  # fmt: skip
    version = voted(store, pairs, tmp_path / "votes.tsv", text)
    assert version.rows == 2
    assert version.reject_reasons == {
        "double_vote": 2, "ambiguous_pair": 1, "unknown_pair": 3, "bad_side": 2, "bad_rater": 2,
    }  # fmt: skip
    rejects = version.rejects().to_pylist()
    assert [json.loads(one["row"])["line"] for one in rejects] == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert "first vote counts" in rejects[0]["detail"]


def test_a_name_is_kept_as_it_is(store: Store, tmp_path) -> None:
    given = world(store, 1, pixels=False)
    text = f'\ufeffpair,side,rater\r\n{given.rows[0]["id"]},winner,"{NASTY.replace(chr(34), chr(34) * 2)}"\r\n'
    version = voted(store, given.pairs, tmp_path / "votes.csv", text)
    assert list(json.loads(version.table()["raters"].to_pylist()[0])) == [NASTY]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "needs one column pair, side, rater"),
        (b"pair,side\n", "needs one column rater"),
        (b"pair,side,rater,pair\n", "needs one column pair"),
        (b"pair,side,rater\n\xff", "cannot be read"),
        (b'pair,side,rater\n"' + b"x" * 200_000 + b'",winner,a', "line 2"),
    ],
    ids=["empty", "a column less", "a column twice", "no UTF-8", "a long value"],
)
@pytest.mark.parametrize("csv_limit", [131_072, 1 << 24], indirect=True, ids=["limit of csv", "raised by a corpus"])
def test_a_file_that_holds_no_votes_is_refused_before_anything_is_made(
    tmp_path, csv_limit: int, text: bytes, told: str
) -> None:
    path = tmp_path / "votes.csv"
    path.write_bytes(text)
    (problem,) = VerdictsConfig(path=str(path)).problems()
    assert told in problem.what
    with pytest.raises(InputCorrupt):
        read_votes(str(tmp_path / "none.csv"))


def test_a_version_is_named_by_votes_and_not_by_their_file(store: Store, tmp_path) -> None:
    given = world(store, 2, pixels=False)
    text = f"pair,side,rater\n{given.rows[0]['id']},winner,ada\n"
    one = voted(store, given.pairs, tmp_path / "a.csv", text).ref
    assert voted(store, given.pairs, tmp_path / "b.csv", text).ref == one
    assert voted(store, given.pairs, tmp_path / "b.csv", text.replace("ada", "eve")).ref.version != one.version
    with pytest.raises(ConfigError, match="no version of pairs"):
        voted(store, given.drawn, tmp_path / "a.csv", text)


def test_votes_that_change_meanwhile_are_refused(store: Store, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = world(store, 2, pixels=False)
    works = []
    monkeypatch.setattr("lightgen.stages.verdicts.build", lambda work, _: works.append(work))
    path = tmp_path / "votes.csv"
    path.write_text("pair,side,rater\n")
    verdicts(given.pairs, VerdictsConfig(path=str(path)), Context(store))
    path.write_text("pair,side,rater\n1,2,3\n")
    with pytest.raises(InputChanged):
        open(works[0], Worker(store))


def test_a_rehearsal_has_no_votes(tmp_path) -> None:
    config = VerdictsConfig(path="somewhere").rehearse(tmp_path)
    assert read_votes(config.path).lines == []
    assert (tmp_path / config.path).read_text() == ",".join(HEADER) + "\n"


def test_votes_are_the_labels_of_an_audit(store: Store, tmp_path) -> None:
    given = world(store, 6, pixels=False)
    said = {True: "winner", False: "loser"}
    lines = [f"{row['id']},{said[row['winner_id'] in given.right]},ada" for row in given.rows]
    version = voted(store, given.pairs, tmp_path / "votes.csv", "\n".join(["pair,side,rater", *lines]))
    main = given.judged(given.truth())
    parents = {"pairs": given.pairs, "held-out-x": main, "human": version.ref}
    found = read_audit(store.open(audit(parents, AuditConfig(), Context(store))))
    (one,) = [one for one in found.figures if one.name == "accuracy"]
    assert (one.value, one.n) == (1, 6)
