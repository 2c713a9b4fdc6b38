"""The components of a pipeline, read from a CHECKPOINT version."""

from typing import Any

from lightgen.encoders.diffusers_vae import DiffusersVaeConfig, load_autoencoder
from lightgen.encoders.patch_pca import PatchPca
from lightgen.encoders.text import text_of_identity
from lightgen.encoders.vae import load_vae, read_identity, vae_of_identity
from lightgen.errors import ConfigError
from lightgen.generators.restore import Weights, checkpoint_config, load_student
from lightgen.model.sampling import SampleConfig
from lightgen.pipeline.components import DecodingScheduler, PatchPcaModel, StudentModel, VaeModel
from lightgen.storage.store import Store, open_store
from lightgen.storage.version import Version


def components_of_checkpoint(store: str, ref: str, weights: Weights) -> dict[str, Any]:
    """Student, scheduler and VAE by name; the text encoder is named by the student and not loaded.

    Raises RefNotFound, ConfigError, ModelError.
    """
    opened = open_store(store)
    version = opened.open(ref)
    if version.ref.kind != "checkpoint":
        raise ConfigError(f"{ref} is of kind {version.ref.kind}; give a checkpoint")
    settings = checkpoint_config(version)
    text = text_of_identity(settings.encoders.text, opened).model_dump(mode="json")
    sampling = SampleConfig.model_validate_json(version.file("sampling.json").read_bytes())
    return {
        "student": StudentModel.of(load_student(version, weights), settings.size_px, text),
        "scheduler": DecodingScheduler.of(sampling),
        "vae": _vae(opened.with_content("vae", settings.encoders.vae), opened),
    }


def _vae(version: Version, store: Store) -> VaeModel:
    described = vae_of_identity(read_identity(version), store)
    if isinstance(described, DiffusersVaeConfig):
        return load_autoencoder(described, "cpu")
    fitted = load_vae(version, store, "cpu")
    assert isinstance(fitted, PatchPca), "what is not of diffusers is a patch PCA"
    return PatchPcaModel.of(fitted)
