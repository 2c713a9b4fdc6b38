"""Names of versions: what a person calls the recipe is in them, and how it is run is not."""

import hashlib
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

from lightgen.config import QUIET, RUN, Config, Member
from lightgen.encoders.diffusers_vae import DiffusersVaeConfig
from lightgen.encoders.t5 import T5Config
from lightgen.encoders.tiny import tiny_t5, tiny_vae
from lightgen.errors import RefNotFound
from lightgen.generators.flux import FluxConfig
from lightgen.generators.tiny_flux import tiny_flux
from lightgen.operations.run import run_recipe
from lightgen.operations.steps import steps_of
from lightgen.recipe import Recipe, Use, load_recipe
from lightgen.stages.encode_pairs import EncodePairsConfig
from lightgen.stages.pretrain import PretrainConfig
from lightgen.storage.collect import collect, find_garbage
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store, open_or_create
from schemas.canonical import canonical_json
from schemas.ref import ArtifactRef
from tests.worked_version import build, plan_of, rows

TINY = "tests/recipes/tiny.yaml"
NAMES_OF_TINY = "398a07c64d9f219443d2468100ad1a7d6fd9849e1db153f899e60bd1e36a8130"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


# --- settings ---------------------------------------------------------------------------------------------------------


class Inner(Config):
    depth: int = 1
    threads: int = Field(default=1, json_schema_extra=RUN)


class Painter(Member):
    REVISION = 3

    kind: Literal["painter"] = "painter"
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1, 2)
    by_name: dict[str, Inner] = {"a": Inner(depth=2)}  # noqa: RUF012  # pydantic copies defaults
    device: str = Field(default="cpu", json_schema_extra=RUN)
    gloss: float = Field(default=0.0, json_schema_extra=QUIET)
    layers: list[int] = Field(default_factory=list, json_schema_extra=QUIET)


class Outer(Config):
    painter: Painter = Painter()


def test_a_member_is_named_by_kind_revision_and_content_all_the_way_down() -> None:
    assert Outer().content() == {
        "painter": {
            "kind": "painter",
            "revision": 3,
            "inner": {"depth": 1},
            "sizes": [1, 2],
            "by_name": {"a": {"depth": 2}},
        }
    }


def test_how_it_is_run_is_in_no_name() -> None:
    changed = Painter(device="cuda", inner=Inner(threads=9))
    assert changed.identity() == Painter().identity()
    assert Painter(inner=Inner(depth=2)).identity() != Painter().identity()


def test_a_later_option_is_in_the_name_only_where_it_is_used() -> None:
    assert "gloss" not in Painter().identity()
    assert "layers" not in Painter(layers=[]).identity()
    assert Painter(gloss=0.5, layers=[1]).identity() == {**Painter().identity(), "gloss": 0.5, "layers": [1]}


def test_a_raised_revision_is_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before, stage = Stage("draw", "images", 1), Outer()
    first = before.plan(stage, 0, [], 1)
    assert Stage("draw", "images", 2).plan(stage, 0, [], 1).version != first.version
    monkeypatch.setattr(Painter, "REVISION", 4)
    assert before.plan(stage, 0, [], 1).version != first.version


def plain_models(kind: Any, seen: set[type]) -> set[type]:
    """Classes of settings that are no `Config`, in the fields of `kind` and below."""
    found: set[type] = set()
    for field in kind.model_fields.values():
        for one in _classes(field.annotation):
            if one in seen:
                continue
            seen.add(one)
            found |= plain_models(one, seen) | (set() if issubclass(one, Config) else {one})
    return found


def _classes(annotation: Any) -> list[type[BaseModel]]:
    parts = [part for arg in getattr(annotation, "__args__", ()) for part in _classes(arg)]
    own = [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
    return own + parts


def test_all_settings_of_a_recipe_can_tell_content_from_speed() -> None:
    """Only where no part of them is content, as in `launch`, may they be plain."""
    assert {one.__name__ for one in plain_models(Recipe, set())} == {"LaunchConfig"}


def test_names_are_the_same_on_every_python() -> None:
    """The suite runs on Python 3.11, 3.12 and 3.13; all of them must give this digest. Another one renames versions."""
    named = [[step.name, step.stage, step.config.content()] for step in steps_of(load_recipe(TINY))]
    assert hashlib.sha256(canonical_json(named)).hexdigest() == NAMES_OF_TINY


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["flux", "t5", "vae"])
def test_a_local_model_is_named_by_its_files_and_not_by_its_place(kind: str, tmp_path: Path) -> None:
    make = {"flux": tiny_flux, "t5": tiny_t5, "vae": tiny_vae}[kind]
    member = {"flux": FluxConfig, "t5": T5Config, "vae": DiffusersVaeConfig}[kind]
    here = make(tmp_path / "here")
    before = member(model=str(here)).identity()
    (here / ".cache").mkdir()
    (here / ".cache" / "notes.json").write_text("{}")
    moved = here.rename(tmp_path / "there")
    assert member(model=str(moved)).identity() == before
    assert str(tmp_path) not in str(before)
    settings = next(path for path in sorted(moved.rglob("config.json")))
    settings.write_text(settings.read_text() + "\n")
    assert member(model=str(moved)).identity()["weights"] != before["weights"]


# --- recipes ----------------------------------------------------------------------------------------------------------


def contents(recipe: Recipe) -> dict[str, Any]:
    """What the settings of each step say of results, and the seed."""
    return {"seed": recipe.seed} | {step.name: step.config.content() for step in steps_of(recipe)}


def changed(**overrides: Any) -> set[str]:
    """Steps whose settings say something else of the result with `overrides`."""
    before, after = contents(load_recipe(TINY)), contents(load_recipe(TINY, overrides))
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run.engine", "processes"),
        ("run.device", "cpu"),
        ("run.workers", 3),
        ("generate.batch", 3),
        ("generate.workers", 5),
        ("generate.max_reject_fraction", 0.9),
        ("filter.max_reject_fraction", 0.9),
        ("encode.0.batch", 3),
        ("encode.1.max_reject_fraction", 0.9),
        ("pretrain.0.loop.log_every", 2),
        ("pretrain.0.loop.checkpoint_every", 9),
        ("pretrain.0.loop.sample_every", 2),
        ("pretrain.0.loop.threads", 2),
        ("pretrain.0.loop.deterministic", False),
        ("pretrain.0.samples.iterations", 1),
        ("pretrain.0.sample_captions", 2),
        ("pretrain.0.launch.accumulate", 2),
        ("pretrain.0.launch.processes", 2),
        ("pretrain.0.launch.compile", True),
        ("align.launch.workers", 2),
        ("align.loop.log_every", 3),
        ("pair.batch_size", 3),
        ("pair.max_reject_fraction", 0.7),
        ("evaluate.batch_size", 3),
        ("source.max_reject_fraction", 0.9),
    ],
)
def test_how_a_recipe_is_run_renames_nothing(key: str, value: Any) -> None:
    assert changed(**{key: value}) == set()


@pytest.mark.parametrize(
    ("key", "value", "renamed"),
    [
        ("seed", 8, {"seed"}),
        ("generate.size_px", 48, {"generate", "generate-held-out-teacher"}),
        ("generate.quality", 50, {"generate", "generate-held-out-teacher"}),
        ("source.corpora.0.count", 54, {"source"}),
        ("select.count", 10, {"select"}),
        ("encode.0.size_px", 24, None),
        ("texts.encoder.dim", 24, {"texts", "texts-pairs"}),
        ("pretrain.0.loop.steps", 4, {"pretrain-16px"}),
        ("pretrain.0.loop.optimizer.lr", 0.5, {"pretrain-16px"}),
        ("pretrain.1.student.width", 64, {"pretrain-32px"}),
        ("align.beta", 7, {"align-dpo"}),
        ("evaluate.resamples", 200, {"evaluate"}),
    ],
)
def test_what_a_recipe_makes_is_in_the_names(key: str, value: Any, renamed: set[str] | None) -> None:
    found = changed(**{key: value})
    assert found if renamed is None else found == renamed


def test_an_option_of_the_student_that_is_new_can_be_quiet() -> None:
    """Settings of training are named field by field, so that a later field need not rename what is trained."""
    content = PretrainConfig().content()
    assert set(content["loop"]) == {
        "steps", "optimizer", "ema", "spike", "max_bad_steps", "max_rollbacks", "precision",
    }  # fmt: skip
    assert "launch" not in content
    assert EncodePairsConfig(batch=1).content() == EncodePairsConfig(batch=2).content() == {}


def test_a_recipe_run_again_in_other_ways_has_the_same_versions(store: Store) -> None:
    first = run_recipe(load_recipe(TINY), store, ["filter"])
    other = {"generate.batch": 3, "generate.workers": 1, "run.device": "cpu", "source.max_reject_fraction": 0.9}
    assert run_recipe(load_recipe(TINY, other), store, ["filter"]) == first
    seed = run_recipe(load_recipe(TINY, {"seed": 8}), store, ["filter"])
    assert not {ref.version for ref in seed.values()} & {ref.version for ref in first.values()}


# --- parents ----------------------------------------------------------------------------------------------------------


def child_of(parent: ArtifactRef) -> str:
    return plan_of(kind="kept", parents=[parent]).version


def test_a_parent_made_again_with_equal_content_under_another_name_does_not_rename_the_child(store: Store) -> None:
    first = build(store, plan_of(name="a"), rows)
    again = build(store, plan_of(name="b"), rows)
    assert again.version != first.version
    assert again.content == first.content
    assert child_of(again) == child_of(first)


def test_other_rows_other_shards_and_other_content_files_of_a_parent_rename_the_child(store: Store) -> None:
    def one_shard(_: int) -> ShardOutput:
        whole = [rows(shard).table for shard in range(3)]
        return ShardOutput(pa.concat_tables(whole), 12, rows(0).schema)

    def with_file(shard: int, data: bytes = b"{}") -> ShardOutput:
        return ShardOutput(rows(shard).table, 4, rows(0).schema, files={"vae.json": data})

    def with_extra(shard: int) -> ShardOutput:
        return ShardOutput(rows(shard).table, 4, rows(0).schema, extras={"log.jsonl": b"today"})

    first = build(store, plan_of(), rows)
    fewer = build(store, plan_of(n_shards=1), one_shard)
    assert fewer.fingerprint == first.fingerprint
    described = build(store, plan_of(name="file"), with_file)
    told = build(store, plan_of(name="other file"), lambda shard: with_file(shard, b"[]"))
    logged = build(store, plan_of(name="extra"), with_extra)
    others = {child_of(ref) for ref in (first, fewer, described, told)}
    assert len(others) == 4
    assert child_of(logged) == child_of(first), "logs and pages are no content"


def test_an_unchanged_result_stops_the_cascade(store: Store) -> None:
    """A raised revision of `source` whose captions stay the same makes nobody draw again."""
    first = run_recipe(load_recipe(TINY), store, ["generate"])
    looser = run_recipe(load_recipe(TINY, {"source.max_characters": 1999}), store, ["generate"])
    assert looser["source"].version != first["source"].version
    assert (looser["select"], looser["generate"]) == (first["select"], first["generate"])


# --- finding ----------------------------------------------------------------------------------------------------------


def test_another_version_of_the_same_content_is_opened_where_the_named_one_was_collected(store: Store) -> None:
    first = build(store, plan_of(name="a"), rows)
    store.retire(first)
    with pytest.raises(RefNotFound):
        store.open("captions")
    again = build(store, plan_of(name="b"), rows)
    collect(store, find_garbage(store, grace_days=0), grace_days=0)
    assert store.open(first).ref.version == again.version
    store.retire(again)
    collect(store, find_garbage(store, grace_days=0), grace_days=0)
    with pytest.raises(RefNotFound, match=f"holds no captions of content {first.content[:12]}; make it again"):
        store.open(first)


def test_the_newest_checkpoint_of_role_dpo_is_the_latest(store: Store) -> None:
    def checkpoint(name: str, role: str) -> ArtifactRef:
        return build(store, plan_of(kind="checkpoint", name=name), rows, role=role)

    pretrained = checkpoint("a", "pretrained")
    assert store.open("checkpoint@latest").ref == pretrained
    aligned = checkpoint("b", "dpo")
    control = checkpoint("c", "sft")
    assert store.open("checkpoint@latest").ref == store.open("checkpoint").ref == aligned
    assert store.open("checkpoint@sft").ref == control
    newer = checkpoint("d", "dpo")
    assert store.open("checkpoint@dpo").ref == newer
    store.retire(newer)
    assert store.open("checkpoint@dpo").ref == store.open("checkpoint@latest").ref == aligned


def test_one_version_may_have_several_roles_and_the_newest_use_of_a_role_counts(store: Store) -> None:
    one = build(store, plan_of(name="a"), rows, role="train")
    two = build(store, plan_of(name="b"), rows, role="train")
    assert store.open("captions@train").ref == two
    build(store, plan_of(name="a"), rows, role="test")
    assert store.open("captions@test").ref == one
    assert store.open("captions@train").ref == two
    build(store, plan_of(name="a"), rows, role="train")
    assert store.open("captions@train").ref == one


def test_a_version_that_is_used_is_found_by_tag_role_number_and_digits(store: Store) -> None:
    ref = build(store, plan_of(), rows, role="train")
    store.tag(ref, "paid")
    for name in ("tag:paid", "train", "1", "latest", ref.version[:8], ref.version):
        assert store.open(Use(use=f"captions@{name}").use).ref == ref
