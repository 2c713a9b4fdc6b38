"""A tiny but whole chain of versions in one store: what pair, evaluate and gallery work on."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pytest
import torch

from lightgen.encoders.patch_pca import PatchPcaConfig
from lightgen.encoders.words import WordsConfig
from lightgen.generators.scenes import ScenesConfig
from lightgen.model.config import StudentConfig
from lightgen.model.sampling import SampleConfig
from lightgen.progress import SILENT, Progress
from lightgen.scenes.grammar import TASKS, captions
from lightgen.scorers.pixels import PixelsConfig
from lightgen.stages.encode import EncodeConfig, encode
from lightgen.stages.encode_pairs import EncodePairsConfig, encode_pairs
from lightgen.stages.filter import FilterConfig, filter_images
from lightgen.stages.fit_vae import FitVaeConfig, fit_vae
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.stages.pretrain import PretrainConfig, pretrain
from lightgen.stages.score import ScoreConfig, score
from lightgen.stages.texts import TextsConfig, texts
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store, open_or_create
from lightgen.training.loop import LoopConfig
from lightgen.training.optimizer import OptimizerConfig
from lightgen.work import Context, RunConfig
from schemas import prompts as prompts_schema
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import pairs, prompts, seal

SIZE_PX = 32
WORDS = TextsConfig(encoder=WordsConfig(dim=16))
SAMPLE = SampleConfig(iterations=4, head="ddim", head_steps=4, guidance=2.0)
EVIL = "<script>alert('x')</script> \x1b[31mred\x1b[0m {0} %s\nline"


@dataclass(frozen=True)
class Chain:
    """Refs of one small run."""

    store: Store
    prompts: ArtifactRef
    images: ArtifactRef
    scores: ArtifactRef
    kept: ArtifactRef
    vae: ArtifactRef
    texts: ArtifactRef
    features: ArtifactRef
    checkpoint: ArtifactRef

    @property
    def refs(self) -> dict[str, ArtifactRef]:
        """By name of the kind."""
        return {name: value for name, value in vars(self).items() if isinstance(value, ArtifactRef)}

    def words(self, encoded: ArtifactRef) -> ArtifactRef:
        """The TEXTS of PAIR_FEATURES."""
        return texts(self.store.open(encoded).parent("pairs"), WORDS, self.context())

    def context(self, seed: int = 1, progress: Progress = SILENT) -> Context:
        """Works in the chain's store, on the CPU."""
        return Context(self.store, seed, RunConfig(device="cpu"), progress)


def sealed_prompts(store: Store, texts: list[str], rejects: list[Reject], n_shards: int = 2) -> ArtifactRef:
    """PROMPTS of `texts`; the rejects lie in shard 0."""
    plain = store.open(prompts(store, texts, n_shards))
    shards = [plain.table(shard) for shard in range(n_shards)]
    given = [
        ShardOutput(pa.table(one, schema=prompts_schema.SCHEMA), one.num_rows + len(lost), one.schema, rejects=lost)
        for one, lost in zip(shards, [rejects, *[[]] * (n_shards - 1)], strict=True)
    ]
    return seal(store, "prompts", given, stage="select")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors are tiny here: threads would only wait for each other, and for other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Prompts, images, features and a student of a few steps."""
    store = open_or_create(str(tmp_path_factory.mktemp("chain") / "store"))
    asked_for = [text for task in TASKS for _, text in zip(range(4), captions("train", task), strict=False)]
    refused = [Reject("r0", "too_long", f"500 tokens: {EVIL}", {"caption": EVIL})]
    asked, context = sealed_prompts(store, asked_for, refused), Context(store, seed=1, run=RunConfig(device="cpu"))
    images = generate(asked, GenerateConfig(generator=ScenesConfig(), size_px=SIZE_PX, format="png"), context)
    scores = score(images, ScoreConfig(scorer=PixelsConfig()), context)
    kept = filter_images(images, {"pixels": scores}, FilterConfig(max_reject_fraction=1.0), context)
    pca = PatchPcaConfig(patch_px=4, channels=8, fit_sizes_px=(SIZE_PX,))
    vae = fit_vae(kept, images, FitVaeConfig(vae=pca), context)
    encoding = EncodeConfig(size_px=SIZE_PX, vae=pca)
    features = encode(kept, images, vae, encoding, context)
    words = texts(asked, WORDS, context)
    checkpoint = pretrain(features, words, training(), context)
    return Chain(store, asked, images, scores, kept, vae, words, features, checkpoint)


def training() -> PretrainConfig:
    """How the chain's student is trained."""
    student = StudentConfig(
        width=32, heads=2, encoder_depth=1, decoder_depth=1, text_depth=1, aligner_depth=0, head_width=32, head_depth=1,
        text_dim=16, latent_channels=8, patch=2, grid=4,
    )  # fmt: skip
    fast = OptimizerConfig(lr=0.01, warmup_steps=0)
    return PretrainConfig(
        student=student, loop=LoopConfig(steps=6, optimizer=fast, ema=0.0, log_every=1, threads=1), batch_size=8,
        noise_copies=1, samples=SAMPLE, sample_captions=4,
    )  # fmt: skip


@pytest.fixture(scope="session")
def encoded(chain: Chain) -> ArtifactRef:
    """Six pairs as PAIR_FEATURES of the chain's student."""
    made, drawn = pairs(chain.store, 6)
    return encode_pairs(made, chain.checkpoint, drawn, EncodePairsConfig(), chain.context())


@pytest.fixture(scope="session")
def evil() -> str:
    """A caption that tries to become markup, to drive a terminal and to be a format."""
    return EVIL


@pytest.fixture(scope="session")
def sample() -> SampleConfig:
    """A quick way to draw."""
    return SAMPLE
