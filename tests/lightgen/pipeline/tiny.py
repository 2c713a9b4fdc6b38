"""Two pipelines small enough for tests: words with a PCA of patches, T5 with an AutoencoderKL. Imported by path."""

from pathlib import Path
from typing import Any

import torch

from lightgen.encoders.t5 import T5Config
from lightgen.encoders.tiny import small_vae, tiny_t5
from lightgen.encoders.words import WordsConfig
from lightgen.model.config import StudentConfig
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.pipeline import LightGenPipeline
from lightgen.pipeline.components import DecodingScheduler, PatchPcaModel, StudentModel

SIZE_PX = 16
SAMPLE = SampleConfig(iterations=4, head="ddim", head_steps=4, guidance=2.0, clip_x0=2.0)


def student(text_dim: int, channels: int, **sizes: Any) -> Student:
    """A student of random weights whose head is not the zero that training starts from."""
    config = StudentConfig(
        width=32, heads=2, encoder_depth=1, decoder_depth=1, text_depth=1, aligner_depth=1, head_width=32, head_depth=1,
        text_dim=text_dim, latent_channels=channels, patch=2, grid=2, **sizes,
    )  # fmt: skip
    made = Student(config).init(3).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        for parameter in made.head.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return made


def of_words() -> LightGenPipeline:
    """Words and a PCA of 4 px patches."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        vae = PatchPcaModel(patch_px=4, latent_channels=8)
        torch.nn.init.normal_(vae.mean, std=0.1)
        torch.nn.init.orthogonal_(vae.basis)
        torch.nn.init.constant_(vae.scale, 0.5)
    net = StudentModel.of(student(16, 8, text_scale=4.0), SIZE_PX, WordsConfig(dim=16).model_dump(mode="json"))
    return _quiet(LightGenPipeline(net, DecodingScheduler.of(SAMPLE), vae.eval()))


def of_t5(folder: Path, **text: Any) -> LightGenPipeline:
    """A T5 in `folder` that is not loaded, and an AutoencoderKL of reduction 4."""
    where = folder if (folder / "config.json").is_file() else tiny_t5(folder)
    settings = T5Config.model_validate(
        {"model": str(where), "max_tokens": 12, "dtype": "float32", "storage": "float16", **text}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        vae = small_vae((8, 8, 16), 4, 1.5305, 0.0609).eval()
    net = StudentModel.of(student(24, 4), SIZE_PX, settings.model_dump(mode="json"))
    return _quiet(LightGenPipeline(net, DecodingScheduler.of(SAMPLE), vae))


def _quiet(pipeline: LightGenPipeline) -> LightGenPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
