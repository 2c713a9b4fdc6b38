"""A tiny but whole chain of versions in one store: what pair, evaluate and gallery work on."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pytest
from lightgen.stages.dedup import DedupConfig, dedup
from lightgen.storage.build import Reject, ShardOutput, build, make_plan
from pydantic import BaseModel

from lightgen.encoders.patch_pca import PatchPcaConfig
from lightgen.encoders.words import WordsConfig
from lightgen.generators.scenes import ScenesConfig
from lightgen.model.config import StudentConfig
from lightgen.model.sampling import SampleConfig
from lightgen.scenes.grammar import TASKS, captions
from lightgen.seeds import content_id
from lightgen.stages.encode import EncodeConfig, encode, fit_vae
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.stages.pretrain import PretrainConfig, pretrain
from lightgen.storage.store import Store, open_or_create
from lightgen.training.loop import LoopConfig
from lightgen.training.optimizer import OptimizerConfig
from schemas import captions as captions_schema
from schemas.ref import ArtifactRef

SIZE_PX = 32
SAMPLE = SampleConfig(iterations=4, head="ddim", head_steps=4, guidance=2.0)
EVIL = "<script>alert('x')</script> \x1b[31mred\x1b[0m {0} %s\nline"


class _NoSettings(BaseModel):
    pass


@dataclass(frozen=True)
class Chain:
    """Refs of one small run."""

    store: Store
    captions: ArtifactRef
    images: ArtifactRef
    kept: ArtifactRef
    vae: ArtifactRef
    features: ArtifactRef
    checkpoint: ArtifactRef


def write_captions(
    store: Store, texts: list[str], rejects: list[Reject], seed: int = 0, shards: int = 2
) -> ArtifactRef:
    """CAPTIONS of `texts`, dealt to `shards`; the rejects lie in shard 0."""
    rows = [
        {"id": content_id(text), "caption": text, "tokens": len(text.split()), "source": "test", "licence": "CC0-1.0"}
        for text in texts
    ]
    plan = make_plan("captions", "source", [], _NoSettings(), seed, [], shards, extra={"texts": texts})

    def make_shard(shard: int) -> ShardOutput:
        mine, refused = rows[shard::shards], rejects if shard == 0 else []
        table = pa.Table.from_pylist(mine, schema=captions_schema.SCHEMA)
        return ShardOutput(table=table, rows_in=len(mine) + len(refused), rejects=refused)

    return build(store, plan, make_shard, captions_schema.SCHEMA, max_reject_fraction=0.9)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Captions, images, features and a student of a few steps."""
    store = open_or_create(str(tmp_path_factory.mktemp("chain") / "store"))
    texts = [text for task in TASKS for _, text in zip(range(4), captions("train", task), strict=False)]
    refused = [Reject("r0", "too_long", f"500 tokens: {EVIL}", {"caption": EVIL})]
    written = write_captions(store, texts, refused)
    images = generate(written, GenerateConfig(teacher=ScenesConfig(), size_px=SIZE_PX, format="png"), store, seed=1)
    kept = dedup(images, DedupConfig(max_reject_fraction=1.0), store, seed=1)
    vae_config = PatchPcaConfig(patch_px=4, channels=8, fit_sizes_px=(SIZE_PX,))
    encoding = EncodeConfig(size_px=SIZE_PX, vae=vae_config, text=WordsConfig(dim=16))
    vae = fit_vae(kept, encoding, store, seed=1)
    features = encode(kept, vae, encoding, store, seed=1)
    student = StudentConfig(
        width=32, heads=2, encoder_depth=1, decoder_depth=1, text_depth=1, aligner_depth=0, head_width=32, head_depth=1,
        text_dim=16, latent_channels=8, patch=2, grid=4,
    )  # fmt: skip
    fast = OptimizerConfig(lr=0.01, warmup_steps=0)
    training = PretrainConfig(
        student=student, loop=LoopConfig(steps=6, optimizer=fast, ema=0.0, log_every=1, threads=1), batch_size=8,
        noise_copies=1, samples=SAMPLE, sample_captions=4,
    )  # fmt: skip
    checkpoint = pretrain(features, training, store, seed=1)
    return Chain(store, written, images, kept, vae, features, checkpoint)


@pytest.fixture(scope="session")
def evil() -> str:
    """A caption that tries to become markup, to drive a terminal and to be a format."""
    return EVIL


@pytest.fixture(scope="session")
def sample() -> SampleConfig:
    """A quick way to draw."""
    return SAMPLE


@pytest.fixture(scope="session", name="write_captions")
def _write_captions() -> Callable[[Store, list[str]], ArtifactRef]:
    """Seals captions given as text."""
    return lambda store, texts: write_captions(store, texts, [], shards=1)
