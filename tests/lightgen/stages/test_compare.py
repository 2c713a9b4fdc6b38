"""Stage `compare`: both pictures in both orders, what is paid for is kept, and who only sees places is told."""

import numpy as np
import pytest

from lightgen.errors import StoreCorrupt, TryLater
from lightgen.stages.audit import AuditConfig, audit, read_audit
from lightgen.stages.compare import CompareConfig, compare
from lightgen.storage.pixels import encode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.vlm.base import REHEARSED
from lightgen.vlm.tiny import tiny_vlm
from lightgen.work import Context
from schemas import pairs as pairs_schema
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import _shard, image, images, seal
from tests.lightgen.stages.audited import world
from tests.servers.chat import ChatServer, refuse, seen


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def greys(store: Store, levels: list[tuple[int, int | None]], n_shards: int = 1) -> tuple[ArtifactRef, ArtifactRef]:
    """PAIRS of grey pictures and their IMAGES; None is no picture."""
    drawn, rows = [], []
    for number, both in enumerate(levels):
        facts = {"caption": f"grey <{number}>", "prompt_id": f"p{number}"}
        for side, level in zip("wl", both, strict=True):
            data = b"no image" if level is None else encode_image(np.full((40, 40, 3), level, np.uint8), "png")
            drawn.append(image(f"{side}{number}", data, **facts))
        rows.append({
            "id": f"{number:032x}", **facts, "winner_id": drawn[-2][0]["id"], "loser_id": drawn[-1][0]["id"],
            "winner_generator": "a", "loser_generator": "b", "winner_score": 1.0, "loser_score": 0.0,
            "margin": 1.0, "weight": 1.0, "host": "", "source": "",
        })  # fmt: skip
    version = images(store, drawn, [drawn[shard::n_shards] for shard in range(n_shards)] if n_shards == 1 else 1)
    return seal(store, "pairs", [_shard(rows, pairs_schema.SCHEMA)], [version]), version


def brighter(_: str, pictures: list[np.ndarray]) -> float:
    """The first is better by as much as it is brighter."""
    return 0.5 + (pictures[0].mean() - pictures[-1].mean()) / 510


def asking(server: ChatServer, **settings) -> CompareConfig:
    model = {
        "kind": "server",
        "url": server.url,
        "model": "m",
        "concurrency": 1,
        "patience": {"tries": 1},
        "min_pixels": 1,
    }
    return CompareConfig.model_validate({"model": model, "max_reject_fraction": 1.0, **settings})


def test_both_orders_are_asked_and_both_numbers_are_about_the_winner(store: Store) -> None:
    pairs, drawn = greys(store, [(255, 51), (102, 204), (0, 0)])
    with ChatServer(surely=brighter) as server:
        version = store.open(compare(pairs, [drawn], asking(server), Context(store)))
        shown = [seen(ask) for ask in server.asked[-6:]]
    rows = version.table().to_pylist()
    assert [row["id"] for row in rows] == store.open(pairs).table()["id"].to_pylist()
    assert [row["winner_first"] for row in rows] == pytest.approx([0.9, 0.3, 0.5])
    assert [row["winner_second"] for row in rows] == pytest.approx([0.9, 0.3, 0.5])
    assert {tuple(int(one[0, 0, 0]) for one in pictures) for _, pictures in shown} == {
        (255, 51), (51, 255), (102, 204), (204, 102), (0, 0),
    }  # fmt: skip
    assert all('"grey \\u003c' in text and "better than the second" in text for text, _ in shown)


def test_a_model_that_always_prefers_the_first_is_told_by_the_order(store: Store) -> None:
    given = world(store, 12)
    main = given.judged(given.truth())
    for surely, agreed in ((lambda *_: 0.9, 0.0), (brighter, 1.0)):
        with ChatServer(surely=surely) as server:
            model = {"kind": "server", "url": server.url, "model": f"m{agreed}", "min_pixels": 1}
            both = compare(given.pairs, [given.drawn], asking(server, model=model), Context(store))
        parents = {"pairs": given.pairs, "held-out-x": main, "compare": both}
        found = read_audit(store.open(audit(parents, AuditConfig(), Context(store))))
        (one,) = [one for one in found.figures if (one.name, one.group) == ("order", "")]
        assert one.value == pytest.approx(agreed, abs=0.1)


def test_a_picture_that_cannot_be_read_is_not_shown_and_a_missing_one_is_an_error(store: Store) -> None:
    pairs, drawn = greys(store, [(255, None), (102, 204)])
    with ChatServer(surely=brighter) as server:
        rows = store.open(compare(pairs, [drawn], asking(server), Context(store))).table().to_pylist()
        assert [(row["unscored"], row["winner_first"] is None) for row in rows] == [("not_an_image", True), ("", False)]
        with pytest.raises(StoreCorrupt, match="no parent has image"):
            compare(pairs, [], asking(server), Context(store))


def test_what_was_answered_before_a_failure_is_not_asked_again(store: Store) -> None:
    pairs, drawn = greys(store, [(10 * number, 5) for number in range(1, 13)])
    with ChatServer(surely=brighter) as server:
        config = asking(server)
        assert config.model.together == 8
        server.trouble = [lambda *_: None] * 12 + [refuse(503)]
        with pytest.raises(TryLater):
            compare(pairs, [drawn], config, Context(store))
        before = len(server.asked)
        rows = store.open(compare(pairs, [drawn], config, Context(store))).table().to_pylist()
        after = len(server.asked)
    assert len(rows) == 12
    assert after - before < 24, "all was asked again"
    assert [row["winner_first"] for row in rows] == pytest.approx([0.5 + (10 * n - 5) / 510 for n in range(1, 13)])


def test_a_count_takes_some_pairs_the_same_every_time(store: Store) -> None:
    pairs, drawn = greys(store, [(number, 5) for number in range(60)])
    with ChatServer(surely=brighter) as server:
        found = [
            store.open(compare(pairs, [drawn], asking(server, count=20), Context(store, seed))) for seed in (1, 1, 2)
        ]
    ids = [one.table()["id"].to_pylist() for one in found]
    assert ids[0] == ids[1] != ids[2]
    assert 10 < len(ids[0]) < 35


def test_a_real_model_sees_two_pictures(store: Store, tmp_path) -> None:
    pairs, drawn = greys(store, [(255, 51), (102, 204)])
    model = {
        "kind": "transformers",
        "model": str(tiny_vlm(tmp_path / "model", answers=REHEARSED)),
        "dtype": "float32",
        "min_pixels": 784,
    }
    config = CompareConfig.model_validate({"model": model})
    rows = store.open(compare(pairs, [drawn], config, Context(store))).table().to_pylist()
    for row in rows:
        assert 0 < row["winner_first"] < 1
        assert row["winner_first"] != pytest.approx(row["winner_second"], abs=1e-6)
    tried = CompareConfig().rehearse(tmp_path)
    assert compare(pairs, [drawn], tried, Context(store)).rows == 2
