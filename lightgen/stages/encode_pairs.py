"""PAIRS -> PAIR_FEATURES: winner and loser take the way through crop and VAE that stage `encode` takes, once."""

from pydantic import BaseModel, ConfigDict, Field

from lightgen.encoders import crop, diffusers_vae, features, patch_pca, restore, t5, text, vae, words
from lightgen.encoders.features import Encoder
from lightgen.encoders.restore import load_encoders, read_encoders
from lightgen.encoders.text import TextConfig, text_identity
from lightgen.errors import ConfigError
from lightgen.progress import SILENT, Progress
from lightgen.settings import Device, pick_device
from lightgen.storage import feature_codec
from lightgen.storage.build import ShardOutput, build, finished, make_plan, rows_done
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef

SIDES = ("winner", "loser")


class EncodePairsConfig(BaseModel):
    """What decides the features beside pairs and VAE: both are those of the checkpoint's own features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: int
    text: TextConfig
    batch: int = Field(default=32, ge=1, description="images at a time through the VAE")
    device: Device = "auto"

    def content(self) -> "EncodePairsConfig":
        """Without what changes only the speed."""
        return self.model_copy(update={"batch": 1, "device": "auto"})


def encode_pairs(
    pairs: ArtifactRef,
    encoded: ArtifactRef,
    store: Store,
    *,
    device: Device = "auto",
    progress: Progress = SILENT,
) -> ArtifactRef:
    """Features of every pair, made by the encoders of the features `encoded`. Raises ConfigError without pairs."""
    source, trained_on = store.open(pairs), store.open(encoded)
    if not source.rows:
        raise ConfigError(f"{pairs} holds no pairs; draw more losers or loosen the judge in stage pair")
    known = read_encoders(trained_on)
    config = EncodePairsConfig(size_px=known.size_px, text=known.text_config, device=device)
    modules = [
        __name__,
        features,
        crop,
        patch_pca,
        words,
        t5,
        text,
        vae,
        diffusers_vae,
        restore,
        feature_codec,
    ]
    models = [text_identity(config.text)]
    plan = make_plan(
        "pair_features", "encode_pairs", modules, config.content(), 0, [pairs, known.vae], source.n_shards, models
    )
    if done := finished(store, plan):
        return done
    worker = Encoder(config.size_px, config.batch, *load_encoders(trained_on, store, pick_device(device)), sides=2)
    progress.start("encode pairs", len(SIDES) * source.rows, "images", len(SIDES) * rows_done(store, plan))

    def make_shard(shard: int) -> ShardOutput:
        return worker.pairs(source.table(shard), _files(source, shard), progress)

    ref = build(store, plan, make_shard, worker.schema)
    progress.finish()
    return ref


def _files(pairs: Version, shard: int) -> list[dict[str, bytes]]:
    """The files of all winners and of all losers of a shard, by id of the pair."""
    samples = list(pairs.samples(shard))
    return [
        {key: next(data for name, data in members.items() if name.startswith(f"{side}.")) for key, members in samples}
        for side in SIDES
    ]
