"""Following a row: its ancestors, and what was made of it alone."""

import pyarrow as pa
import pytest

from lightgen.errors import RefNotFound
from lightgen.seeds import content_id
from lightgen.storage import trace as module
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.trace import trace
from lightgen.storage.version import Version
from tests.worked_version import build, plan_of, rows

COLUMNS = {
    "captions": ("caption_id",),
    "prompts": (),
    "images": ("prompt_id",),
    "scores": ("prompt_id",),
    "features": ("prompt_id",),
    "pairs": ("prompt_id", "winner_id", "loser_id"),
    "reference": ("pair_id",),
}
SHARDS, PROMPTS, SAMPLES = 2, 3, 4


def name(*parts) -> str:
    return content_id("test", *parts)


def made(store: Store, kind, parents, rows_of, rejects=()):
    """A version of `kind` whose shard i holds `rows_of(i)`."""
    schema = pa.schema([pa.field(column, pa.string(), nullable=False) for column in ("id", *COLUMNS[kind])])
    schema = schema.append(pa.field("wide", pa.binary(), nullable=False)) if kind == "features" else schema

    def make(shard: int) -> ShardOutput:
        table = pa.Table.from_pylist(rows_of(shard), schema)
        refused = list(rejects) if shard == 0 else []
        return ShardOutput(table, table.num_rows + len(refused), schema, refused)

    return build(store, plan_of(SHARDS, kind=kind, parents=parents), make, max_reject_fraction=1, parents=parents)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Captions, prompts, four images of each prompt, scores, features, pairs, reference and two checkpoints."""
    store = open_or_create(str(tmp_path_factory.mktemp("trace") / "store"))
    prompts = [[name("prompt", shard, i) for i in range(PROMPTS)] for shard in range(SHARDS)]
    images = [[(name("image", p, k), p) for p in prompts[shard] for k in range(SAMPLES)] for shard in range(SHARDS)]
    refused = [Reject(name("blank"), "blank", "", {"prompt_id": prompts[0][0]})]
    refs = {}
    refs["captions"] = made(
        store,
        "captions",
        [],
        lambda s: [{"id": name("record", p, n), "caption_id": p} for p in prompts[s] for n in (0, 1)],
    )
    refs["prompts"] = made(store, "prompts", [refs["captions"]], lambda s: [{"id": p} for p in prompts[s]])
    pairs_of = lambda s: [{"id": i, "prompt_id": p} for i, p in images[s]]  # noqa: E731
    refs["images"] = made(store, "images", [refs["prompts"]], pairs_of, refused)
    refs["scores"] = made(store, "scores", [refs["images"]], pairs_of)
    wide = lambda s: [row | {"wide": b"1"} for row in pairs_of(s)]  # noqa: E731
    refs["features"] = made(store, "features", [refs["images"]], wide)
    refs["pairs"] = made(
        store, "pairs", [refs["images"], refs["scores"]],
        lambda s: [
            {"id": name("pair", p), "prompt_id": p, "winner_id": name("image", p, 0), "loser_id": name("image", p, 1)}
            for p in prompts[s]
        ],
    )  # fmt: skip
    refs["reference"] = made(
        store, "reference", [refs["pairs"]],
        lambda s: [{"id": name("draw", p, d), "pair_id": name("pair", p)} for p in prompts[s] for d in (0, 1)],
    )  # fmt: skip
    refs["checkpoint"] = build(
        store, plan_of(1, kind="checkpoint", parents=[refs["features"]]), rows, parents=[refs["features"]]
    )
    refs["aligned"] = build(
        store, plan_of(1, kind="checkpoint", parents=[refs["checkpoint"], refs["pairs"]]), lambda s: rows(8),
        parents=[refs["checkpoint"], refs["pairs"]],
    )  # fmt: skip
    build(store, plan_of(1, seed=9, kind="checkpoint"), lambda s: rows(9))
    return store, refs, prompts, images


def told(steps) -> list[tuple]:
    """Relation, kind and id of each step."""
    return [(step.relation, step.kind, step.row.get("id")) for step in steps]


def test_an_image_shows_its_prompt_and_none_of_its_siblings(chain) -> None:
    store, refs, _, images = chain
    image, prompt = images[1][2]
    steps = trace(store, image)
    assert sorted(told(steps)) == sorted(
        [
            *[("made from", "captions", name("record", prompt, n)) for n in (0, 1)],
            ("made from", "prompts", prompt),
            *[("the row", kind, image) for kind in ("images", "scores", "features")],
            ("made of it", "checkpoint", None), ("made of it", "checkpoint", None),
        ]
    )  # fmt: skip
    assert {step.ref for step in steps if step.kind == "checkpoint"} == {refs["checkpoint"], refs["aligned"]}
    assert [step.kind for step in steps][:3] == ["captions", "captions", "prompts"]
    assert steps[3].row == {"id": image, "prompt_id": prompt}


def test_a_winner_shows_its_pair_and_what_was_made_of_that(chain) -> None:
    store, _, prompts, _ = chain
    prompt = prompts[0][1]
    made_of_it = {
        step.row.get("id") for step in trace(store, name("image", prompt, 0)) if step.relation == "made of it"
    }
    assert made_of_it == {name("pair", prompt), name("draw", prompt, 0), name("draw", prompt, 1), None}


def test_a_pair_shows_both_images_with_their_scores_and_no_other_image(chain) -> None:
    store, _, prompts, _ = chain
    prompt = prompts[1][0]
    found = told(trace(store, name("pair", prompt)))
    both = [name("image", prompt, k) for k in (0, 1)]
    assert sorted(id for relation, kind, id in found if (relation, kind) == ("made from", "images")) == sorted(both)
    assert sorted(id for relation, kind, id in found if (relation, kind) == ("made from", "scores")) == sorted(both)
    assert ("made from", "prompts", prompt) in found
    assert ("made from", "captions", name("record", prompt, 0)) in found


def test_a_record_and_a_prompt_show_all_that_was_made_of_them(chain) -> None:
    store, _, prompts, _ = chain
    prompt = prompts[0][2]
    of_record, of_prompt = told(trace(store, name("record", prompt, 1))), told(trace(store, prompt))
    assert of_record[0] == ("the row", "captions", name("record", prompt, 1))
    assert ("made of it", "prompts", prompt) in of_record
    images = {("made of it", "images", name("image", prompt, k)) for k in range(SAMPLES)}
    assert images <= set(of_record)
    assert images <= set(of_prompt)
    assert ("made of it", "features", name("image", prompt, 3)) in of_record
    assert ("made of it", "reference", name("draw", prompt, 1)) in of_record
    records = {("made from", "captions", name("record", prompt, n)) for n in (0, 1)}
    assert {step for step in of_prompt if step[1] == "captions"} == records
    other = {name("image", p, k) for p in prompts[0][:2] for k in range(SAMPLES)}
    assert not other & {id for _, _, id in [*of_record, *of_prompt]}


def test_a_rejected_row_is_found(chain) -> None:
    (step,) = trace(chain[0], name("blank"))
    assert (step.relation, step.outcome, step.row["reason"]) == ("the row", "rejected", "blank")


def test_a_caption_stands_for_its_prompt_and_a_single_word_for_an_id(tmp_path) -> None:
    store, caption = open_or_create(str(tmp_path / "store")), "A red chair, with two cats"
    made(store, "prompts", [], lambda shard: [{"id": content_id("caption", f"{caption}{'!' * shard}")}])
    (found,) = trace(store, caption)
    assert found.row["id"] == content_id("caption", caption)
    with pytest.raises(RefNotFound, match="has the caption 'a red chair, with two cats'"):
        trace(store, caption.lower())
    with pytest.raises(RefNotFound, match="has the id 'chair'"):
        trace(store, "chair")


def test_eight_digits_stand_for_one_id_and_fewer_do_not(chain) -> None:
    store, _, _, images = chain
    image, _ = images[0][0]
    assert told(trace(store, image[:8])) == told(trace(store, image))
    assert told(trace(store, image[:-1])) == told(trace(store, image))
    with pytest.raises(RefNotFound, match="has the id"):
        trace(store, image[:7])
    with pytest.raises(RefNotFound, match="'nobody'"):
        trace(store, "nobody")


def test_digits_that_fit_several_ids_list_them(tmp_path) -> None:
    store, ids = open_or_create(str(tmp_path)), ["abcdef01" + end * 8 for end in "012"]
    made(store, "prompts", [], lambda s: [{"id": id} for id in ids[s::2]])
    with pytest.raises(RefNotFound, match=f"fits 3 ids of .*: {', '.join(ids)}; give more digits"):
        trace(store, "abcdef01")
    assert trace(store, ids[1][:12])[0].row["id"] == ids[1]


def test_an_exact_id_is_found_though_others_begin_with_it(tmp_path) -> None:
    store = open_or_create(str(tmp_path))
    made(store, "prompts", [], lambda s: [{"id": "abcdef01" + "0" * s}])
    assert [step.row["id"] for step in trace(store, "abcdef01")] == ["abcdef01"]


def test_tables_are_read_once_and_those_of_ancestors_once_more_and_wide_ones_never(chain, monkeypatch) -> None:
    store, _, _, images = chain
    read: list[str] = []
    table_of = Version.table_of

    def counted(self, entry, columns=None):
        if columns is not None or entry.role == "digests":
            read.append(self.ref.kind)
        else:
            assert self.ref.kind != "features", "a wide table was read"
        return table_of(self, entry, columns)

    monkeypatch.setattr(Version, "table_of", counted)
    trace(store, images[0][0][0])
    once = {"scores", "pairs", "reference", "features"}
    assert {kind: read.count(kind) for kind in once} == dict.fromkeys(once, SHARDS)
    assert {kind: read.count(kind) for kind in ("captions", "prompts", "images")} == dict.fromkeys(
        ("captions", "prompts", "images"), 2 * SHARDS
    )
    assert module.WITHOUT_ROWS == ("checkpoint", "vae")
    assert "checkpoint" not in read
