"""Several generators in one recipe: who draws what, what each refuses and costs, and pictures beside them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from lightgen.errors import ConfigError
from lightgen.generators.images_api import ImagesApiConfig
from lightgen.generators.scenes import ScenesConfig
from lightgen.generators.shares import drawn_by
from lightgen.operations.forecast import Forecast
from lightgen.operations.preflight import check, preflight
from lightgen.operations.rehearsal import rehearse
from lightgen.operations.run import run_recipe
from lightgen.operations.steps import steps_of
from lightgen.recipe import Recipe, load_recipe
from lightgen.storage.pixels import encode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.trace import trace
from lightgen.storage.verify import verify
from tests.servers.images import ImagesServer, refusal

CORPORA = [{"kind": "scenes", "split": "train", "count": 40}]  # 36 captions, for some tasks have few
SHARES = {"paid": 0.4, "own": 0.6}


def api(server: ImagesServer, **changes: Any) -> dict[str, Any]:
    return {"kind": "images_api", "url": server.api, "model": "m", "sizes": ["64x64"], **changes}


def recipe(server: ImagesServer | None, shares: dict[str, float] = SHARES, **changes: Any) -> Recipe:
    """A mix of an API and the scene world, or without a server of two scene worlds."""
    size = {"size_px": 32, "format": "png", "batch": 4, "max_reject_fraction": 0.5}
    paid = api(server) if server else {"kind": "scenes"}
    generators = {"paid": paid, "own": {"kind": "scenes"}}
    mix = {name: {"share": share, "generator": generators[name], **size} for name, share in shares.items()}
    return Recipe.model_validate({
        "name": "mixed", "source": {"corpora": CORPORA, "shard_rows": 15},
        "select": {"near_duplicates": None}, "generate": {"mix": mix},
        "filter": {"repeats": [], "max_reject_fraction": 1.0}, **changes,
    })  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def rows_of(store: Store, ref: Any) -> list[dict[str, Any]]:
    return store.open(ref).table().to_pylist()


def test_every_prompt_is_drawn_once_by_the_generator_that_its_id_says_and_rows_know_theirs(store: Store) -> None:
    with ImagesServer() as server:
        made = run_recipe(recipe(server), store)
    prompts = rows_of(store, made["select"])
    whose = dict(zip((row["id"] for row in prompts), drawn_by([row["id"] for row in prompts], SHARES), strict=True))
    images = rows_of(store, made["join"])
    assert {row["prompt_id"]: row["generator"] for row in images} == {
        id: list(SHARES)[place] for id, place in whose.items()
    }
    assert len(images) == len(prompts)
    asked = {row["caption"] for row in images if row["generator"] == "paid"}
    assert {one["prompt"] for one in server.asked} == asked
    assert len(server.asked) == len(asked)
    assert rows_of(store, made["filter"]) != []
    assert store.open("images@train").ref == made["join"]
    assert {row["generator"] for row in rows_of(store, "images@train-own")} == {"own"}


def test_joined_images_are_those_of_their_versions_byte_for_byte_and_what_need_not_change_is_linked(
    store: Store,
) -> None:
    made = run_recipe(recipe(None), store, ["join"])
    joined = store.open(made["join"])
    assert joined.n_shards == 6
    for name in SHARES:
        own = store.open(made[f"generate-{name}"])
        for row in own.table().to_pylist():
            assert joined.member(row["id"], "png") == own.member(row["id"], "png")
    for version, shard, ours in [(f"generate-{n}", s, s + 3 * at) for at, n in enumerate(SHARES) for s in range(3)]:
        theirs = store.open(made[version])
        pair = [Path(one.paths("tar")[place]) for one, place in ((theirs, shard), (joined, ours))]
        assert pair[0].samefile(pair[1]), "a hard link takes no room"
    assert verify(store) == []
    id = joined.table()["id"][0].as_py()
    assert [step.ref.kind for step in trace(store, id) if step.relation == "the row"] == ["images", "images"]


def test_what_one_generator_refuses_is_its_own_reject_and_the_others_go_on(store: Store) -> None:
    plain = rows_of(store, run_recipe(recipe(None), store, ["select"])["select"])
    place = list(drawn_by([row["id"] for row in plain], SHARES)).index(0)
    refused = plain[place]["caption"]
    with ImagesServer(always={refused: refusal(message="not for us")}) as server:
        made = run_recipe(recipe(server), store, ["join"])
    paid, own, joined = (store.open(made[name]) for name in ("generate-paid", "generate-own", "join"))
    assert (paid.reject_reasons, own.reject_reasons) == ({"refused": 1}, {})
    assert joined.reject_reasons == {"refused": 1}
    (reject,) = joined.rejects().to_pylist()
    assert json.loads(reject["row"])["caption"] == refused
    assert "not for us" in reject["detail"]
    assert joined.rows + 1 == len(plain)


def test_neither_shards_nor_a_second_run_change_who_draws(store: Store, tmp_path: Path) -> None:
    with ImagesServer() as server:
        first = rows_of(store, run_recipe(recipe(server), store, ["join"])["join"])
        asked = len(server.asked)
        assert rows_of(store, run_recipe(recipe(server), store, ["join"])["join"]) == first
        assert len(server.asked) == asked
        source = {"corpora": CORPORA, "shard_rows": 7}
        other = open_or_create(str(tmp_path / "other"))
        cut = rows_of(other, run_recipe(recipe(server, source=source), other, ["join"])["join"])
    assert {row["id"]: row["generator"] for row in cut} == {row["id"]: row["generator"] for row in first}


def test_where_a_share_is_raised_only_the_prompts_that_move_are_bought(store: Store) -> None:
    with ImagesServer() as server:
        before = rows_of(store, run_recipe(recipe(server), store, ["join"])["join"])
        bought = len(server.asked)
        after = rows_of(store, run_recipe(recipe(server, {"paid": 0.8, "own": 0.6}), store, ["join"])["join"])
        counts = [Counter(row["generator"] for row in rows)["paid"] for rows in (before, after)]
        assert len(server.asked) - bought == counts[1] - counts[0] > 0
    paid = [{row["prompt_id"] for row in rows if row["generator"] == "paid"} for rows in (before, after)]
    assert paid[0] < paid[1]


def test_one_generator_alone_lends_its_images_to_a_mix(store: Store) -> None:
    alone = recipe(None, generate={"generator": {"kind": "scenes"}, "size_px": 32, "format": "png"})
    run_recipe(alone, store, ["generate"])
    mixed = store.open(run_recipe(recipe(None), store, ["join"])["generate-own"])
    assert sum(one.rows_reused for one in mixed.manifest.shards) == mixed.rows > 0


def test_columns_that_one_generator_has_are_empty_for_the_other(store: Store) -> None:
    def revised(ask: Any, answer: dict[str, Any]) -> dict[str, Any]:
        answer["data"][0]["revised_prompt"] = f"A photograph of {ask['prompt']}"
        return answer

    with ImagesServer(shape=revised) as server:
        made = run_recipe(recipe(server, recaption={"captioner": {"kind": "given"}}), store, ["recaption"])
    rows = rows_of(store, made["join"])
    assert {(row["generator"], row["revised"] == "") for row in rows} == {("paid", False), ("own", True)}
    told = {row["image_id"]: row["caption"] for row in rows_of(store, made["recaption"])}
    assert all(told[row["id"]] == (row["revised"] or row["caption"]) for row in rows if row["id"] in told)
    assert verify(store) == []


def test_pictures_that_exist_join_what_is_drawn(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        (folder / f"{number}.png").write_bytes(encode_image(pixels, "png"))
        (folder / f"{number}.txt").write_text(f"a photograph of a harbour number {number}")
    sets = [{"kind": "folder", "path": str(folder), "source": "mine", "licence": "CC0", "drawn_by": "camera"}]
    both = recipe(None, pictures={"sets": sets})
    made = run_recipe(both, store, ["filter"])
    rows = rows_of(store, made["join"])
    assert Counter(row["generator"] for row in rows)["camera"] == 5
    assert len(rows) == 5 + made["select"].rows
    assert {row["licence"] for row in rows if row["generator"] == "camera"} == {"CC0"}
    assert {row["licence"] for row in rows if row["generator"] != "camera"} == {""}
    photo = next(row for row in rows if row["generator"] == "camera")
    assert store.open(made["join"]).member(photo["id"], "png") == (folder / photo["file"]).read_bytes()


# --- before the first paid minute -------------------------------------------------------------------------------------


def test_plan_has_a_line_a_generator_with_its_rows_its_price_and_its_need_of_a_gpu(tmp_path: Path) -> None:
    flux = {"kind": "flux", "model": "black-forest-labs/FLUX.1-dev", "revision": "0" * 40}
    with ImagesServer() as server:
        mixed = recipe(server).model_dump()
        mixed["generate"]["mix"]["paid"]["generator"] = api(server, prices={"usd_per_answer": 0.04})
        mixed["generate"]["mix"]["own"] |= {"generator": flux}
        found = preflight(Recipe.model_validate(mixed), str(tmp_path / "store"), ["join"])
        assert not server.asked
    lines = {line.step.name: line for line in found.lines}
    assert lines["generate-paid"].fees == pytest.approx(14 * 0.04)
    assert lines["generate-own"].fees == 0
    assert [lines[name].rows.count for name in ("generate-paid", "generate-own", "join")] == [14, 22, 36]  # type: ignore[union-attr]
    forecast = Forecast(Recipe.model_validate(mixed))
    assert [forecast.wants_gpu(lines[name].step) for name in ("generate-paid", "generate-own", "join")] == [
        False, True, False,
    ]  # fmt: skip


def test_plan_checks_every_generator_before_the_first_image_of_any(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("API_KEY", raising=False)
    with ImagesServer() as server:
        mixed = recipe(server).model_dump()
        mixed["generate"]["mix"]["paid"]["generator"] = api(server, key_env="API_KEY")
        mixed["generate"]["mix"]["own"]["generator"] = {"kind": "flux", "model": str(tmp_path / "nowhere")}
        found = preflight(Recipe.model_validate(mixed), str(tmp_path / "store"), ["join"])
        with pytest.raises(ConfigError, match="API_KEY"):
            check(Recipe.model_validate(mixed), str(tmp_path / "store"), ["join"])
        assert not server.asked
    stopping = {problem.where for problem in found.problems if problem.weight == "stops"}
    assert "generate.mix.paid.generator.key_env" in stopping
    assert any(where.startswith("generate.mix.own.generator") for where in stopping)


def test_a_worker_of_one_generator_opens_no_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    for kind in (ImagesApiConfig, ScenesConfig):
        before = kind.open
        monkeypatch.setattr(kind, "open", lambda self, *rest, go=before: (opened.append(self.kind), go(self, *rest))[1])
    with ImagesServer() as server:
        run_recipe(recipe(server), store, ["generate-paid"])
        assert set(opened) == {"images_api"}
        run_recipe(recipe(server), store, ["generate-own"])
        assert set(opened) == {"images_api", "scenes"}


def test_a_rehearsal_lets_every_generator_draw(tmp_path: Path) -> None:
    """Even one of a tiny share, at no price and without a key."""
    mixed = recipe(None, {"paid": 0.001, "own": 0.999}).model_dump()
    paid = {"kind": "images_api", "url": "https://api.example/v1", "model": "m", "key_env": "NO_SUCH_KEY"}
    mixed["generate"]["mix"]["paid"]["generator"] = paid
    done = {one.name: one.rows for one in rehearse(Recipe.model_validate(mixed), str(tmp_path / "store"))}
    assert done["generate-paid"] > 0
    assert done["generate-own"] > 0
    assert done["join"] == done["generate-paid"] + done["generate-own"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"share": 0}, "greater than 0"),
        ({"part": {"name": "own", "shares": {"own": 1}}}, "part follows from the shares"),
        ({"size_px": None}, "has no size of its own"),
    ],
)
def test_a_member_of_a_mix_that_makes_no_sense_is_refused(change: dict[str, Any], said: str) -> None:
    mixed = recipe(None).model_dump()
    mixed["generate"]["mix"]["own"] |= change
    with pytest.raises(ValidationError, match=said):
        Recipe.model_validate(mixed)


def test_one_generator_is_no_mix_and_a_wrong_key_is_named_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="at least 2"):
        recipe(None, {"own": 1.0})
    path = tmp_path / "wrong.yaml"
    mixed = recipe(None).model_dump(mode="json", exclude_unset=True)
    mixed["generate"]["mix"]["own"]["shar"] = 2
    path.write_text(yaml.safe_dump(mixed))
    with pytest.raises(ConfigError, match=r"generate\.mix\.own\.shar: there is no such key; did you mean 'share'"):
        load_recipe(str(path))


def test_a_mix_cannot_be_the_teacher_that_wins_pairs(store: Store) -> None:
    whole = load_recipe("tests/recipes/tiny.yaml").model_dump()
    mixed = Recipe.model_validate(whole | {"generate": recipe(None).model_dump()["generate"]})
    found = preflight(mixed, store.uri)
    assert "pair.winner" in {problem.where for problem in found.problems if problem.weight == "stops"}


def test_a_recipe_of_one_generator_has_the_steps_that_it_had() -> None:
    plain = recipe(None, generate={"generator": {"kind": "scenes"}, "size_px": 32})
    assert [step.name for step in steps_of(plain)] == ["source", "select", "generate", "score-pixels", "filter"]
