"""PAIRS + IMAGES -> PAIR_FEATURES: winner and loser take the way through crop and VAE that stage `encode` takes, once.

Stage `texts` encodes their captions. A map. Memory: the decoded images and features of one shard.
"""

from dataclasses import replace

from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.encoders.features import Encoder
from lightgen.encoders.image_files import files_of
from lightgen.encoders.restore import IMAGE_FILE, ImageEncoding, load_vae_of
from lightgen.engines.build import build
from lightgen.errors import ConfigError
from lightgen.generators.restore import checkpoint_config
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef

STAGE = Stage("encode_pairs", "pair_features", revision=2)
SIDES = ("winner", "loser")


class EncodePairsConfig(Config):
    """How the pairs are encoded; what encodes them is what the checkpoint was trained with."""

    batch: int = Field(default=32, ge=1, description="images at a time through the VAE", json_schema_extra=RUN)


class _Work(Config):
    """The settings with the image encoder, which the checkpoint gives."""

    batch: int = Field(json_schema_extra=RUN)
    encoder: ImageEncoding


def encode_pairs(
    pairs: ArtifactRef,
    checkpoint: ArtifactRef,
    images: list[ArtifactRef],
    config: EncodePairsConfig,
    context: Context,
) -> ArtifactRef:
    """Features of every pair, made by the image encoder of the checkpoint. Raises ConfigError without pairs."""
    source = context.store.open(pairs)
    if not source.rows:
        raise ConfigError(f"{pairs} holds no pairs; draw more samples or loosen the rules of stage pair")
    settings = _Work(batch=config.batch, encoder=checkpoint_config(context.store.open(checkpoint)).encoders.image)
    # Not the checkpoint is a parent but its VAE: another student on the same features shares the result.
    parents = [pairs, *images, context.store.with_content("vae", settings.encoder.vae).ref]
    plan = STAGE.plan(settings, 0, parents, source.n_shards)
    needs = Needs(gpu=True, unit="pairs", total=source.rows)
    return build(Work.of(plan, settings, parents, context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the VAE; see `lightgen.work`."""
    settings = _Work.model_validate(work.config)
    pairs, *images = (worker.store.open(ref) for ref in work.parents[:-1])
    vae = load_vae_of(settings.encoder, worker.store, worker.device)
    encoder = Encoder(settings.encoder.size_px, settings.batch, vae, sides=len(SIDES))

    def make_shard(shard: int) -> ShardOutput:
        made = encoder.pairs(pairs.table(shard), _files(pairs, images, shard), worker.progress)
        return replace(made, files={IMAGE_FILE: settings.encoder.file()}) if shard == 0 else made

    return make_shard


def _files(pairs: Version, images: list[Version], shard: int) -> list[dict[str, bytes]]:
    """The files of all winners and of all losers of a shard, by id of the pair."""
    rows = pairs.table(shard, columns=["id", "winner_id", "loser_id"]).to_pylist()
    wanted = {row[f"{side}_id"] for row in rows for side in SIDES}
    found: dict[str, bytes] = {}
    for version in images:
        there = set(version.table(shard, columns=["id"])["id"].to_pylist()) & wanted
        found |= files_of(version, shard, there)
    return [{row["id"]: found[row[f"{side}_id"]] for row in rows} for side in SIDES]
