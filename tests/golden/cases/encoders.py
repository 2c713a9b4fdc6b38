"""Encoders: latents and pictures of VAEs, vectors of text encoders."""

from pathlib import Path

import torch

from lightgen.encoders.diffusers_vae import DiffusersVae, DiffusersVaeConfig
from lightgen.encoders.fit import fit_or_describe
from lightgen.encoders.patch_pca import PatchPca, PatchPcaConfig
from lightgen.encoders.t5 import T5Config
from lightgen.encoders.vae import Vae, load_vae
from lightgen.encoders.words import WordsConfig
from lightgen.progress import SILENT
from lightgen.stages.fit_vae import FitVaeConfig, fit_vae
from tests.golden.compare import numbers, png
from tests.golden.given import CAPTIONS, FLUX, context, one_thread, picture, sealed_images
from tests.golden.subject import Output, Subject, Tolerance
from tests.lightgen.sealed import kept_of

TEXTS = ["a red circle left of a blue square", "Two DOGS, one cat's", "", "circle"]
# Numbers that were computed in half precision: three digits of bfloat16, and what a sum makes of them.
HALF = Tolerance(3e-2, 3e-2, levels=8)
FLOAT = Tolerance(1e-3, 1e-3, levels=1)


def subjects() -> list[Subject]:
    """One a member."""
    vae = {"model": str(FLUX)}
    t5 = {"model": str(FLUX), "subfolder": "text_encoder_2", "tokenizer_subfolder": "tokenizer_2"}
    exact = t5 | {"dtype": "float32", "storage": "float16"}
    return [
        Subject("vae patch_pca", (PatchPcaConfig,), PatchPcaConfig, PCA, _pca, FLOAT),
        Subject("vae diffusers", (DiffusersVaeConfig,), DiffusersVaeConfig,
                {"plain": vae, "bfloat16": vae | {"dtype": "bfloat16"}, "float16": vae | {"dtype": "float16"}},
                _diffusers, FLOAT, loose={"bfloat16": HALF, "float16": HALF}),
        Subject("text words", (WordsConfig,), WordsConfig, WORDS, _text, FLOAT),
        Subject("text t5", (T5Config,), T5Config,
                {"plain": exact, "cut": exact | {"max_tokens": 3}, "padded": exact | {"max_tokens": 6, "padded": True},
                 "wide": exact | {"storage": "bfloat16"},
                 "bfloat16": exact | {"dtype": "bfloat16"}, "float16": exact | {"dtype": "float16"}},
                _text, FLOAT, loose={"bfloat16": HALF, "float16": HALF, "wide": HALF}),
    ]  # fmt: skip


PCA = {
    "plain": {"channels": 3, "fit_sizes_px": (16,)},
    "small patches": {"channels": 2, "patch_px": 2, "fit_sizes_px": (8, 16)},
    "whitened": {"channels": 3, "whitening": 1.0, "fit_sizes_px": (16,)},
    "few images": {"channels": 2, "fit_images": 3, "fit_sizes_px": (16,)},
}
WORDS = {
    "plain": {"dim": 6},
    "context": {"dim": 6, "context": 2},
    "cut": {"dim": 6, "max_tokens": 2},
    "bfloat16": {"dim": 6, "storage": "bfloat16"},
}


def _pca(config: PatchPcaConfig, folder: Path) -> Output:
    """Fitted on the kept ones of the pictures."""
    works = context(folder)
    images = sealed_images(works.store)
    ids = works.store.open(images).table()["id"].to_pylist()
    kept = kept_of(works.store, images, sorted(ids)[1:])
    with one_thread():
        rows, _, figures = fit_or_describe(works.store.open(kept), works.store.open(images), config, SILENT)
        vae = works.store.open(fit_vae(kept, images, FitVaeConfig(vae=config), works))
        opened = load_vae(vae, works.store, "cpu")
        assert isinstance(opened, PatchPca)
        told = {"mean": numbers(opened.mean), "scale": numbers(opened.scale), "basis": numbers(opened.basis)}
        return {**told, **_there_and_back(opened), "tensors": [row["name"] for row in rows], "fit": sorted(figures)}


def _diffusers(config: DiffusersVaeConfig, _: Path) -> Output:
    with one_thread():
        return _there_and_back(DiffusersVae(config, "cpu"))


def _there_and_back(vae: Vae) -> Output:
    """Moments of two pictures, and what is decoded of the means."""
    batch = torch.stack([torch.from_numpy(picture(name)[:16, :24].copy()) for name in ("scene-0", "wide")])
    mean, std = vae.encode(batch)
    decoded = vae.decode(mean).numpy()
    return {"mean": numbers(mean[:, :4]), "std": numbers(std[:, :2]), "pictures": [png(one) for one in decoded],
            "shape": list(vae.latent_shape(32))}  # fmt: skip


def _text(config: WordsConfig | T5Config, _: Path) -> Output:
    with one_thread():
        vectors = config.open("cpu").encode([*TEXTS, *list(CAPTIONS.values())[:1]])
    return [numbers(one) for one in vectors]
