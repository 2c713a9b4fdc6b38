"""Generators: the pictures of a few captions and seeds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightgen.encoders.vae import Vae
from lightgen.errors import ConfigError
from lightgen.generators.base import Failure, Generator, GeneratorMember, Revised
from lightgen.generators.diffusers import DiffusersConfig
from lightgen.generators.flux import FluxConfig
from lightgen.generators.images_api import ImagesApiConfig
from lightgen.generators.scenes import ScenesConfig
from lightgen.generators.sprites import SpritesConfig
from lightgen.generators.student import StudentGenerator, StudentGeneratorConfig, UntrainedGeneratorConfig
from lightgen.stages.generate import STAGE
from lightgen.storage.plans import Stage
from lightgen.work import Needs, Work, Worker
from tests.golden.compare import numbers, png
from tests.golden.given import FLUX, WEIGHTS, context, one_thread, sealed_checkpoint
from tests.golden.subject import Output, Subject, Tolerance
from tests.servers.images import ImagesServer, refusal

SCENES = [
    "a photo of a red circle", "two blue crosses on a light background", "three triangles", "a green square",
    "a yellow cross left of a purple circle", "a square below a triangle", "a circle and a square", "a dog",
]  # fmt: skip
SPRITES = [
    "an apple",
    "three puppies",
    "an apple left of a puppy on a light background",
    "a puppy above an apple",
    "a cat",
]
WORDS = ["a red cat", "two blue dogs on the left"]
EXACT, NETWORK = Tolerance(levels=1), Tolerance(1e-3, 1e-3, levels=3)
# Drawn with half the precision.
LOOSE = Tolerance(levels=12)
HALVES = {"bfloat16": LOOSE, "as the device has it": LOOSE}
SAMPLE: dict[str, Any] = {"iterations": 3, "head_steps": 3, "guidance": 2.0}
SAMPLING: dict[str, dict[str, Any]] = {
    "plain": {},
    "no guidance, one pass": {"guidance": 1.0, "iterations": 1},
    "linear guidance": {"guidance_schedule": "linear", "guidance": 3.0},
    "raster": {"order": "raster"},
    "ddim": {"head": "ddim", "head_steps": 4},
    "cold": {"temperature": 0.5, "start_temperature": 0.7},
    "clipped": {"clip_x0": 0.5},
    "drawn again": {"redraw": {"sweeps": 1, "noise": 0.5, "head_steps": 3}},
    "drawn again twice": {"redraw": {"sweeps": 2, "noise": 0.9, "head_steps": 2}, "head": "ddim"},
    "bfloat16": {"precision": "bf16"},
    "as the device has it": {"precision": "auto"},
}

NOWHERE = {"url": "http://127.0.0.1:1/v1", "model": "m"}
API: dict[str, dict[str, Any]] = {
    "plain": NOWHERE | {"sizes": ("32x32", "64x64", "64x32")},
    "more": NOWHERE | {
        "model": "n", "sizes": ("48x40",), "served": "2026-11-28", "options": {"quality": "hd"}, "seed_key": "seed",
    },
}  # fmt: skip


def subjects() -> list[Subject]:
    """One a member."""
    flux = {"model": str(FLUX), "steps": 2, "max_tokens": 16, "dtype": "float32"}
    any_flux = flux | {"guidance": 3.5}
    student = {name: {"sample": SAMPLE | changes} for name, changes in SAMPLING.items()}
    return [
        Subject("generator scenes", (ScenesConfig,), ScenesConfig, {"plain": {}},
                _draws(SCENES, (24, 24), (24, 40)), EXACT),
        Subject("generator sprites", (SpritesConfig,), SpritesConfig, {"pack": {"folder": str(WEIGHTS / "pack")}},
                _draws(SPRITES, (24, 24), (40, 24)), EXACT),
        Subject("generator flux", (FluxConfig,), FluxConfig,
                {"plain": flux, "more": flux | {"steps": 3, "guidance": 0.0, "max_tokens": 3},
                 "bfloat16": flux | {"dtype": "bfloat16"}, "float16": flux | {"dtype": "float16"}},
                _draws(WORDS, (32, 32), (16, 32)), NETWORK, loose={"bfloat16": LOOSE, "float16": LOOSE}),
        Subject("generator diffusers", (DiffusersConfig,), DiffusersConfig,
                {"plain": any_flux, "steps": any_flux | {"steps": 3, "guidance": 2.0, "max_tokens": None},
                 "negative": any_flux | {"true_guidance": 3.0, "negative_prompt": "a blue dog"},
                 "guidance not said": any_flux | {"guidance": None},
                 "bfloat16": any_flux | {"dtype": "bfloat16"}, "float16": any_flux | {"dtype": "float16"}},
                _or_refused(_draws(WORDS, (32, 32), (16, 32))), NETWORK, loose={"bfloat16": LOOSE, "float16": LOOSE}),
        Subject("generator images api", (ImagesApiConfig,), ImagesApiConfig, API, _api, EXACT),
        Subject("generator student", (StudentGeneratorConfig,), StudentGeneratorConfig,
                student | {"model": {"sample": SAMPLE, "weights": "model"}}, _student, NETWORK,
                loose=HALVES),
        Subject("generator untrained", (UntrainedGeneratorConfig,), UntrainedGeneratorConfig,
                student | {"model": {"sample": SAMPLE, "weights": "model"}, "seed": {"sample": SAMPLE, "seed": 1}},
                _student, NETWORK, loose=HALVES),
    ]  # fmt: skip


def _draws(captions: Sequence[str], *sizes: tuple[int, int]) -> Any:
    """Draws the captions at each size of height and width."""

    def run(member: GeneratorMember, folder: Path) -> Output:
        works = context(folder)
        work = Work.of(STAGE.plan({}, 0, [], 1), member, [], works, "", Needs())
        with one_thread():
            return _pictures(member.open(work, Worker(works.store)), captions, sizes)

    return run


def _api(member: ImagesApiConfig, folder: Path) -> Output:
    """What a server on loopback is asked and draws: a square, a cut, and a prompt that it refuses."""
    with ImagesServer(always={WORDS[1]: refusal()}, shape=_revised) as server:
        # One after the other, so that they arrive in order.
        there = {"url": server.api, "concurrency": 1, "allow_private": (server.address,)}
        drawn = _draws([SCENES[0], *WORDS], (32, 32), (16, 32))(member.model_copy(update=there), folder)
    return {**drawn, "asked": server.asked}


def _revised(ask: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    answer["data"][0]["revised_prompt"] = f"{ask['prompt']}, drawn"
    return answer


def _or_refused(draws: Any) -> Any:
    """The same, or what is said of settings that the pipeline does not take."""

    def run(member: GeneratorMember, folder: Path) -> Output:
        try:
            return draws(member, folder)
        except ConfigError as error:
            return {"refused": str(error)}

    return run


class Logged:
    """The VAE of a student that is not trained to stay within bounds: latents by their logarithms, and kept."""

    def __init__(self, vae: Vae) -> None:
        self.vae = vae
        self.latents: list[torch.Tensor] = []

    def latent_shape(self, size_px: int) -> tuple[int, int, int]:
        return self.vae.latent_shape(size_px)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.vae.encode(images)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        small = latents.sign() * latents.abs().log1p()
        self.latents.append(small)
        return self.vae.decode(small / 8)


def _student(member: StudentGeneratorConfig, folder: Path) -> Output:
    """The size trained on, and a picture that is no square."""
    works = context(folder)
    checkpoint = sealed_checkpoint(works.store)
    plan = Stage("generate", "images", 1).plan({}, 0, [checkpoint], 1)
    work = Work.of(plan, member, [checkpoint], works, "", Needs())
    with one_thread():
        opened = member.open(work, Worker(works.store))
        vae = Logged(opened.sampler.vae)
        generator = StudentGenerator(replace(opened.sampler, vae=vae), opened.config)
        drawn = _pictures(generator, WORDS, [(0, 0), (16, 24)])
    return drawn | {"latents": [numbers(one[:, :2, 0, :3]) for one in vae.latents]}


def _pictures(generator: Generator, captions: Sequence[str], sizes: Sequence[tuple[int, int]]) -> Output:
    found = {}
    for height, width in sizes:
        seeds = [7 + place for place in range(len(captions))]
        drawn = generator.generate(captions, seeds, height, width)
        found[f"{height} x {width}"] = [
            png(one)
            if isinstance(one, np.ndarray)
            else {"failure": one.reason}
            if isinstance(one, Failure)
            else {"png": png(one.pixels)["png"], "revised": one.caption}
            if isinstance(one, Revised)
            else str(one)
            for one in drawn
        ]
    return found
