"""Stage `generate`: the same images whatever the batch, the shards and the threads; failures are rows with a reason."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from lightgen.errors import ConfigError, TooManyRejects
from lightgen.generators.base import Drawn, Failure
from lightgen.generators.sampler import Sampler
from lightgen.generators.scenes import ScenesConfig, ScenesGenerator
from lightgen.generators.student import StudentGeneratorConfig
from lightgen.generators.tiny_flux import tiny_flux
from lightgen.progress import SILENT, Progress, Silent
from lightgen.scenes import grammar
from lightgen.seeds import derive_seed
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.storage.pixels import decode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context, RunConfig
from tests.lightgen.conftest import Chain
from tests.lightgen.sealed import prompts

SCENES = {"generator": {"kind": "scenes"}, "size_px": 48, "format": "png"}


def scene_captions(n: int) -> list[str]:
    """Captions of several tasks of the scene world."""
    return [next(iter(grammar.captions("train", task))) for task in grammar.TASKS][:n]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def config(**changes: object) -> GenerateConfig:
    return GenerateConfig.model_validate({**SCENES, **changes})


def context(store: Store, seed: int = 4, progress: Progress = SILENT) -> Context:
    return Context(store, seed, RunConfig(device="cpu"), progress)


class Faulty:
    """A generator of which some images fail."""

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Drawn]:
        images: dict[str, Drawn] = {
            "fails": Failure("caption_not_drawable", "no idea"),
            "overflows": Failure("nonfinite", "12 values"),
            "flat": np.full((height_px, width_px, 3), 77, np.uint8),
        }
        good = np.random.default_rng(0).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
        return [images.get(caption, good) for caption in captions]


def test_images_are_those_of_the_generator(store: Store) -> None:
    asked = prompts(store, scene_captions(5), n_shards=2)
    version = store.open(generate(asked, config(samples_per_prompt=2), context(store)))
    table = version.table()
    assert version.n_shards == 2
    assert table.num_rows == 2 * len(scene_captions(5))
    for row in table.to_pylist():
        assert row["seed"] == derive_seed(4, "generate", row["prompt_id"], row["index"])
        (expected,) = ScenesGenerator().generate([row["caption"]], [row["seed"]], 48, 48)
        data = version.member(row["id"], "png")
        assert np.array_equal(decode_image(data), expected)
        note = json.loads(version.member(row["id"], "json"))
        assert {name: note[name] for name in row} == row
        assert note["generator"] == "scenes"
    assert version.plan.config["generator"] == ScenesConfig().identity()


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

    asked = prompts(store, scene_captions(6), n_shards=3)
    with pytest.raises(KeyboardInterrupt):
        generate(asked, config(batch=2), context(store, progress=Told(die_after=3)))
    generate(asked, config(batch=2), context(store, progress=Told(die_after=100)))
    assert told == [(6, 0), (6, 4)]


def test_batch_and_threads_and_shards_do_not_matter(tmp_path: Path) -> None:
    fingerprints = set()
    for batch, workers, n_shards in [(1, 1, 1), (3, 4, 1), (64, 2, 3)]:
        own = open_or_create(str(tmp_path / f"{batch}"))
        asked = prompts(own, scene_captions(6), n_shards)
        fingerprints.add(generate(asked, config(batch=batch, workers=workers), context(own)).fingerprint)
    assert len(fingerprints) == 1
    asked = prompts(own, scene_captions(6), 1)
    assert generate(asked, config(), context(own, seed=5)).fingerprint not in fingerprints


def test_speed_settings_find_the_sealed_version(store: Store) -> None:
    asked = prompts(store, scene_captions(3))
    first = generate(asked, config(), context(store))
    assert generate(asked, config(batch=2, workers=1, max_reject_fraction=0.5), context(store)) == first
    assert generate(asked, config(size_px=32), context(store)).version != first.version


@pytest.mark.parametrize(("format", "name"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_formats(store: Store, format: str, name: str) -> None:
    version = store.open(generate(prompts(store, scene_captions(2)), config(format=format), context(store)))
    for row in version.table().to_pylist():
        with Image.open(io.BytesIO(version.member(row["id"], format))) as image:
            assert (image.format, image.size, image.mode) == (name, (48, 48), "RGB")


def test_a_small_source_may_give_more_samples_of_each_prompt(store: Store) -> None:
    asked = prompts(store, scene_captions(6))
    settings = config(samples_per_prompt=1, samples_by_source={"test:1": 3})
    rows = store.open(generate(asked, settings, context(store))).table().to_pylist()
    assert Counter(row["prompt_id"] for row in rows) == {f"{place:032x}": 3 if place % 2 else 1 for place in range(6)}
    plain = store.open(generate(asked, config(samples_per_prompt=1), context(store))).table()
    assert set(plain["id"].to_pylist()) < {row["id"] for row in rows}
    with pytest.raises(ConfigError, match=r"names test:2; the prompts come from test:0, test:1"):
        generate(asked, config(samples_by_source={"test:2": 3}), context(store))


def test_failures_are_rejects(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScenesConfig, "open", lambda *_: Faulty())
    asked = prompts(store, ["good", "fails", "flat", "fine", "overflows"])
    version = store.open(generate(asked, config(batch=2, max_reject_fraction=1.0), context(store)))
    # A blank image is an image: whether it is kept is for a rule to say.
    assert version.table()["caption"].to_pylist() == ["good", "flat", "fine"]
    rejects = {json.loads(one["row"])["caption"]: one for one in version.rejects().to_pylist()}
    assert {caption: one["reason"] for caption, one in rejects.items()} == {
        "fails": "caption_not_drawable", "overflows": "nonfinite",
    }  # fmt: skip
    assert rejects["overflows"]["detail"] == "12 values"
    assert json.loads(rejects["fails"]["row"])["id"] == rejects["fails"]["id"]


def test_a_caption_the_generator_cannot_draw_is_a_reject(store: Store) -> None:
    asked = prompts(store, [*scene_captions(3), "the meaning of life"])
    with pytest.raises(TooManyRejects):
        generate(asked, config(), context(store))
    version = store.open(generate(asked, config(max_reject_fraction=0.3), context(store)))
    assert version.rows == 3
    assert sum(version.reject_reasons.values()) == 1


def test_height_and_width_are_free(store: Store) -> None:
    asked = prompts(store, scene_captions(4))
    sides = {"size_px": None, "height_px": 32, "width_px": 64}
    version = store.open(generate(asked, config(**sides), context(store)))
    for row in version.table().to_pylist():
        assert (row["height"], row["width"]) == (32, 64)
        pixels = decode_image(version.member(row["id"], "png"))
        assert isinstance(pixels, np.ndarray)
        assert pixels.shape == (32, 64, 3)
    square = {"size_px": None, "height_px": 48, "width_px": 48}
    assert generate(asked, config(**square), context(store)) == generate(asked, config(), context(store))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"height_px": 32, "width_px": 32}, "not both"),
        ({"size_px": None, "height_px": 32}, "give both"),
        ({"size_px": None}, "generator scenes has no size of its own"),
    ],
    ids=["twice", "half", "none"],
)
def test_a_size_that_is_said_twice_or_not_at_all_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**changes)


def test_a_student_draws_what_its_sampler_draws_from_the_seeds_of_any_generator(chain: Chain, sample) -> None:
    """Models are compared on the same noise."""
    student = GenerateConfig(generator=StudentGeneratorConfig(sample=sample), format="png")
    version = chain.store.open(generate(chain.prompts, student, chain.context(), chain.checkpoint))
    teacher = chain.store.open(chain.images)
    assert version.table()["seed"].equals(teacher.table()["seed"])
    assert not set(version.table()["id"].to_pylist()) & set(teacher.table()["id"].to_pylist())
    assert [parent.kind for parent in version.parents] == ["prompts", "checkpoint"]
    sampler = Sampler.from_checkpoint(chain.store.open(chain.checkpoint), chain.store)
    for row in version.table(0).to_pylist()[:4]:
        pixels = decode_image(version.member(row["id"], "png"))
        assert isinstance(pixels, np.ndarray)
        expected = sampler.images([row["caption"]], [row["seed"]], sample)[0]
        # Rounding of a product in another batch; no two of the drawn pictures are this near.
        assert abs(pixels.astype(int) - expected).max() <= 1


def test_a_student_draws_other_sizes_than_it_was_trained_on(chain: Chain, sample) -> None:
    wide = GenerateConfig(generator=StudentGeneratorConfig(sample=sample), height_px=32, width_px=48, format="png")
    version = chain.store.open(generate(chain.prompts, wide, chain.context(), chain.checkpoint))
    row = version.table().to_pylist()[0]
    pixels = decode_image(version.member(row["id"], "png"))
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (row["height"], row["width"], 3) == (32, 48, 3)
    odd = wide.model_copy(update={"width_px": 44})
    with pytest.raises(ConfigError, match="multiples of 8 px"):
        generate(chain.prompts, odd, chain.context(), chain.checkpoint)


def test_a_student_without_a_checkpoint_given_takes_the_one_its_settings_name(chain: Chain, sample) -> None:
    named = StudentGeneratorConfig(sample=sample, checkpoint=f"checkpoint@{chain.checkpoint.version}")
    drawing = GenerateConfig(generator=named, format="png")
    given = GenerateConfig(generator=StudentGeneratorConfig(sample=sample), format="png")
    assert generate(chain.prompts, drawing, chain.context()) == generate(
        chain.prompts, given, chain.context(), chain.checkpoint
    )


def test_flux_end_to_end(store: Store, tmp_path: Path) -> None:
    flux = {"kind": "flux", "model": str(tiny_flux(tmp_path / "flux")), "steps": 1, "max_tokens": 16}
    asked = prompts(store, ["a red cat", "two blue dogs", "a green circle"])
    settings = config(generator={**flux, "dtype": "float32"}, format="jpg", batch=2)
    version = store.open(generate(asked, settings, context(store)))
    assert version.rows == 3
    assert set(version.plan.config["generator"]["weights"]) == {"sha256"}  # type: ignore[index]
    assert version.seconds > 0
