"""Stage `generate`: the same images whatever the batch, the shards and the threads; failures are rows with a reason."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from lightgen.storage.build import ShardOutput, build, make_plan
from PIL import Image

from lightgen.errors import ConfigError, TooManyRejects
from lightgen.generators.base import TeacherFailure
from lightgen.generators.config import make_teacher
from lightgen.progress import Silent
from lightgen.scenes import grammar
from lightgen.seeds import derive_seed
from lightgen.stages import generate as stage
from lightgen.stages.generate import GenerateConfig, generate, paint, samples_of
from lightgen.storage.pixels import decode_image
from lightgen.storage.store import Store, open_or_create
from schemas import prompts as prompts_schema
from schemas.ref import ArtifactRef
from tests.tiny_models import tiny_flux

SCENES = {"teacher": {"kind": "scenes"}, "size_px": 48, "format": "png"}


def scene_captions(n: int) -> list[str]:
    """Captions of several tasks of the scene world."""
    return [next(iter(grammar.captions("train", task))) for task in grammar.TASKS][:n]


def sealed_prompts(store: Store, captions: Sequence[str], n_shards: int = 1) -> ArtifactRef:
    rows = [
        {
            "id": f"{place:032x}",
            "caption": caption,
            "tokens": 5,
            "source": f"test:{place % 2}",
            "licence": "none",
            "rank": place,
            "novelty": 0.0,
        }
        for place, caption in enumerate(captions)
    ]
    plan = make_plan("prompts", "select", [stage], GenerateConfig(**SCENES), 0, [], n_shards, extra={"test": captions})

    def make_shard(shard: int) -> ShardOutput:
        part = rows[shard::n_shards]
        return ShardOutput(table=pa.Table.from_pylist(part, schema=prompts_schema.SCHEMA), rows_in=len(part))

    return build(store, plan, make_shard, prompts_schema.SCHEMA)


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def config(**changes) -> GenerateConfig:
    return GenerateConfig.model_validate({**SCENES, **changes})


class Faulty:
    """A teacher of which some images fail."""

    def identity(self) -> dict:
        return {"kind": "faulty"}

    def generate(
        self, captions: Sequence[str], seeds: Sequence[int], size_px: int
    ) -> list[np.ndarray | TeacherFailure]:
        images = {
            "fails": TeacherFailure("teacher_failure", "no idea"),
            "overflows": TeacherFailure("nonfinite", "12 values"),
            "flat": np.full((size_px, size_px, 3), (255, 1, 77), np.uint8),
            "nearly flat": np.full((size_px, size_px, 3), (255, 1, 77), np.uint8),
            "a dot": np.full((size_px, size_px, 3), (255, 1, 77), np.uint8),
        }
        images["nearly flat"][3, 4] = (253, 3, 77)  # type: ignore[index]
        images["a dot"][3, 4] = (255, 1, 80)  # type: ignore[index]
        good = np.random.default_rng(0).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
        return [images.get(caption, good) for caption in captions]


def test_images_are_those_of_the_teacher(store: Store) -> None:
    prompts = sealed_prompts(store, scene_captions(5), n_shards=2)
    version = store.open(generate(prompts, config(samples_per_prompt=2), store, seed=4))
    table = version.table()
    assert version.n_shards == 2
    assert table.num_rows == 2 * len(scene_captions(5))
    teacher = make_teacher(config().teacher)
    for row in table.to_pylist():
        assert row["seed"] == derive_seed(4, "generate", row["prompt_id"], row["sample"])
        (expected,) = teacher.generate([row["caption"]], [row["seed"]], 48)
        data = version.member(row["id"], "png")
        assert np.array_equal(decode_image(data), expected)
        note = json.loads(version.member(row["id"], "json"))
        assert {name: note[name] for name in row} == row
        assert note["teacher"]["kind"] == "scenes"
    assert version.plan.models == [teacher.identity()]


def test_work_that_goes_on_counts_what_was_done_as_done(store: Store) -> None:
    """Else rate and time left are those of work that nobody does."""
    told: list[tuple[int, int]] = []

    class Told(Silent):
        def __init__(self, die_after: int) -> None:
            self.left = die_after

        def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
            told.append((total, done))

        def advance(self, count: int, note: str = "") -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    prompts = sealed_prompts(store, scene_captions(6), n_shards=3)
    with pytest.raises(KeyboardInterrupt):
        generate(prompts, config(batch=2), store, seed=4, progress=Told(die_after=3))
    generate(prompts, config(batch=2), store, seed=4, progress=Told(die_after=100))
    assert told == [(6, 0), (6, 4)]


def test_batch_and_threads_and_shards_do_not_matter(tmp_path: Path) -> None:
    fingerprints = set()
    for batch, workers, n_shards in [(1, 1, 1), (3, 4, 1), (64, 2, 3)]:
        own = open_or_create(str(tmp_path / f"{batch}"))
        prompts = sealed_prompts(own, scene_captions(6), n_shards)
        fingerprints.add(generate(prompts, config(batch=batch, workers=workers), own, seed=4).fingerprint)
    assert len(fingerprints) == 1
    prompts = sealed_prompts(own, scene_captions(6), 1)
    assert generate(prompts, config(), own, seed=5).fingerprint not in fingerprints


def test_speed_settings_find_the_sealed_version(store: Store) -> None:
    prompts = sealed_prompts(store, scene_captions(3))
    first = generate(prompts, config(), store, seed=4)
    assert generate(prompts, config(batch=2, workers=1, max_reject_fraction=0.5), store, seed=4) == first
    assert generate(prompts, config(size_px=32), store, seed=4).version != first.version


@pytest.mark.parametrize(("format", "name"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_formats(store: Store, format: str, name: str) -> None:
    version = store.open(generate(sealed_prompts(store, scene_captions(2)), config(format=format), store, seed=1))
    for row in version.table().to_pylist():
        with Image.open(io.BytesIO(version.member(row["id"], format))) as image:
            assert (image.format, image.size, image.mode) == (name, (48, 48), "RGB")


def test_a_small_source_may_give_more_samples_of_each_prompt(store: Store) -> None:
    prompts = sealed_prompts(store, scene_captions(6))
    settings = config(samples_per_prompt=1, samples_by_source={"test:1": 3})
    rows = store.open(generate(prompts, settings, store, seed=4)).table().to_pylist()
    assert Counter(row["prompt_id"] for row in rows) == {f"{place:032x}": 3 if place % 2 else 1 for place in range(6)}
    plain = store.open(generate(prompts, config(samples_per_prompt=1), store, seed=4)).table()
    assert set(plain["id"].to_pylist()) < {row["id"] for row in rows}
    with pytest.raises(ConfigError, match=r"names test:2; the prompts come from test:0, test:1"):
        generate(prompts, config(samples_by_source={"test:2": 3}), store, seed=4)


def test_failures_are_rejects() -> None:
    captions = ["good", "fails", "flat", "fine", "overflows", "nearly flat", "a dot"]
    rows = [{"id": f"{place:032x}", "caption": caption, "source": "test"} for place, caption in enumerate(captions)]
    settings = config(batch=2)
    samples = samples_of(rows, Faulty().identity(), settings, seed=1)
    output = paint(samples, Faulty(), Faulty().identity(), settings)
    assert output.rows_in == 7
    assert output.table["caption"].to_pylist() == ["good", "fine", "a dot"]
    found = {one.row["caption"]: one.reason for one in output.rejects}
    blank = {"flat": "blank_image", "nearly flat": "blank_image"}
    assert found == {"fails": "teacher_failure", "overflows": "nonfinite", **blank}
    assert [one.id for one in output.rejects] == [samples[place].id for place in (1, 2, 4, 5)]
    assert json.dumps([one.row for one in output.rejects])


def test_a_caption_the_teacher_cannot_draw_is_a_reject(store: Store) -> None:
    prompts = sealed_prompts(store, [*scene_captions(3), "the meaning of life"])
    with pytest.raises(TooManyRejects):
        generate(prompts, config(), store, seed=1)
    version = store.open(generate(prompts, config(max_reject_fraction=0.3), store, seed=1))
    assert version.rows == 3
    assert sum(version.reject_reasons.values()) == 1


def test_flux_end_to_end(store: Store, tmp_path: Path) -> None:
    teacher = {"kind": "flux", "model": str(tiny_flux(tmp_path / "flux")), "steps": 1, "max_tokens": 16}
    prompts = sealed_prompts(store, ["a red cat", "two blue dogs", "a green circle"])
    settings = config(teacher={**teacher, "dtype": "float32", "device": "cpu"}, format="jpg", batch=2)
    version = store.open(generate(prompts, settings, store, seed=3))
    assert version.rows == 3
    assert set(version.plan.models[0]["weights"]) == {"transformer", "text_encoder", "text_encoder_2", "vae"}
    assert version.seconds > 0
