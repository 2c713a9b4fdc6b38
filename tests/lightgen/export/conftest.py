"""A small store with everything that is exported: drawn, fetched and joined images, kept ones, scores and pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from lightgen.decisions.rules import Rule
from lightgen.encoders.words import WordsConfig
from lightgen.export.facts import Export
from lightgen.export.folder import export_dataset
from lightgen.generators.scenes import ScenesConfig
from lightgen.scenes.grammar import captions
from lightgen.scorers.pixels import PixelsConfig
from lightgen.seeds import content_id
from lightgen.stages.filter import FilterConfig, filter_images
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.stages.join import JoinConfig, join
from lightgen.stages.score import ScoreConfig, score
from lightgen.stages.texts import TextsConfig, texts
from lightgen.storage.feature_codec import latent_array, std_array
from lightgen.storage.pixels import encode_image
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context, RunConfig
from schemas import features as features_schema
from schemas import links as links_schema
from schemas import prompts as prompts_schema
from schemas import report as report_schema
from schemas.ref import ArtifactRef
from tests.lightgen import sealed

LICENCES = {"ours": "CC-BY-4.0", "theirs": "CC0-1.0"}
SECRET = "a bench that only the evaluation may show"
SHARDS = 3


@dataclass(frozen=True)
class World:
    """Refs of the store; `folder` is free for exports."""

    store: Store
    refs: dict[str, ArtifactRef]

    def version(self, name: str) -> Version:
        """The sealed version of that name."""
        return self.store.open(self.refs[name])

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Its rows as the store has them."""
        return self.version(name).table().to_pylist()

    def files(self, name: str) -> dict[str, bytes]:
        """The image files of a version of images, by id."""
        version = self.version(name)
        samples = [one for shard in range(version.n_shards) for one in version.samples(shard)]
        return {id: next(data for end, data in files.items() if end != "json") for id, files in samples}


def _prompts(store: Store) -> ArtifactRef:
    rows = []
    for place, text in enumerate(islice(captions("train", "colors"), 30)):
        source = ("ours", "theirs")[place % 3 == 0]
        facts = {"tokens": 5, "rank": place, "novelty": 0.5, "image_id": None}
        rows.append({"id": content_id(text), "caption": text, "source": source, "licence": LICENCES[source]} | facts)
    parts = [pa.Table.from_pylist(rows[shard::SHARDS], schema=prompts_schema.SCHEMA) for shard in range(SHARDS)]
    lost = [Reject("r0", "contaminated", SECRET, {"caption": SECRET})]
    shards = [
        ShardOutput(part, len(part) + len(rejects), prompts_schema.SCHEMA, rejects)
        for part, rejects in zip(parts, [lost, [], []], strict=True)
    ]
    return sealed.seal(store, "prompts", shards, stage="select")


def _links(store: Store) -> ArtifactRef:
    """Two links, of which one says all and one as little as may be."""
    must = {"url": "https://example.com/ä?a=1&b=2", "caption": 'says "hi", | twice', "host": "example.com"}
    must |= {"caption_id": content_id("c"), "source": "web", "licence": "unknown"}
    said = {"width": 640, "height": 480, "similarity": 0.25, "punsafe": 0.5, "language": "en", "uid": "7"}
    blank = dict.fromkeys(links_schema.SCHEMA.names)
    rows = [{**blank, **must, "id": content_id("link", n), **(said if n else {})} for n in range(2)]
    table = pa.Table.from_pylist(rows, schema=links_schema.SCHEMA)
    return sealed.seal(store, "links", [ShardOutput(table, 2, links_schema.SCHEMA)], stage="links")


def _report(store: Store) -> ArtifactRef:
    """Two models, two tasks, some right answers."""
    rows = [
        {"id": content_id("judged", n), "model": ("ours", "theirs")[n % 2], "task": ("colors", "counting")[n % 3 == 0],
         "prompt_id": content_id(n // 2), "caption": f"prompt {n // 2}", "index": 0, "correct": n % 5 > 1,
         "reason": "" if n % 5 > 1 else "colour", "image_id": None}
        for n in range(24)
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=report_schema.SCHEMA)
    return sealed.seal(store, "report", [ShardOutput(table, 24, report_schema.SCHEMA)], stage="evaluate")


def _features(store: Store) -> ArtifactRef:
    """Latents of three images whose deviations are in 8 bits."""
    latents = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    std = std_array(latents)
    schema = features_schema.schema((2, 4, 4), std_bytes=std.type.byte_width)
    ids = [f"{n:032x}" for n in range(3)]
    names = {"id": ids, "prompt_id": ids, "caption": ["one", "two", "three"]}
    table = pa.table({**names, "latent_mean": latent_array(latents), "latent_std": std}, schema=schema)
    return sealed.seal(store, "features", [ShardOutput(table, 3, schema)])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Thirty drawn scenes in three shards, of which some are kept; two fetched pictures; four pairs."""
    store = open_or_create(str(tmp_path_factory.mktemp("export") / "store"))
    context = Context(store, seed=3, run=RunConfig(device="cpu"))
    refs = {"prompts": _prompts(store)}
    drawing = GenerateConfig(generator=ScenesConfig(), size_px=32, format="jpg")
    refs["images"] = generate(refs["prompts"], drawing, context)
    refs["scores"] = score(refs["images"], ScoreConfig(scorer=PixelsConfig()), context)
    contrast = sorted(store.open(refs["scores"]).table()["contrast"].to_pylist())
    rules = (Rule(column="pixels.contrast", least=contrast[9], reason="dull"),)
    filtering = FilterConfig(rules=rules, repeats=(), max_reject_fraction=1.0)
    refs["kept"] = filter_images(refs["images"], {"pixels": refs["scores"]}, filtering, context)
    where = {"url": "https://example.com/1.png", "host": "example.com", "source": "web|site", "licence": "MIT"}
    found = [sealed.image(f"web {n}", encode_image(sealed.noise(n), "png"), **where) for n in range(2)]
    refs["fetched"] = sealed.images(store, found, stage="fetch")
    refs["joined"] = join([refs["images"], refs["fetched"]], JoinConfig(), context)
    refs["pairs"], _ = sealed.pairs(store, 4)
    refs["texts"] = texts(refs["prompts"], TextsConfig(encoder=WordsConfig(dim=8)), context)
    refs["links"], refs["report"] = _links(store), _report(store)
    refs["texts8"] = texts(refs["prompts"], TextsConfig(encoder=WordsConfig(dim=64), codec="int8"), context)
    refs["features8"] = _features(store)
    return World(store, refs)


Exported = Callable[..., Path]


@pytest.fixture
def exported(world: World, tmp_path: Path) -> Exported:
    """Writes a version of the world into a new folder; settings are those of `Export`."""

    def write(what: str, /, to: str = "dataset", **how: Any) -> Path:
        export_dataset(world.version(what), world.store, str(tmp_path / to), Export(**how))
        return tmp_path / to

    return write


SMALL = {"file_bytes": 1}  # a file for each shard of the store
