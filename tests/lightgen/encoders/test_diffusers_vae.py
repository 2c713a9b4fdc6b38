import shutil
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from lightgen.encoders.diffusers_vae import DiffusersVae, DiffusersVaeConfig
from lightgen.encoders.tiny import tiny_vae
from lightgen.errors import ConfigError, ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vae(tmp_path_factory.mktemp("vae"))


def _images() -> torch.Tensor:
    return torch.randint(0, 256, (3, 16, 24, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def test_moments_are_shifted_and_scaled_as_the_config_says(folder: Path) -> None:
    vae = DiffusersVae(DiffusersVaeConfig(model=str(folder)), "cpu")
    model = AutoencoderKL.from_pretrained(folder / "vae").eval()
    with torch.no_grad():
        pixels = _images().permute(0, 3, 1, 2).float() / 127.5 - 1
        posterior = model.encode(pixels).latent_dist
    mean, std = vae.encode(_images())
    assert mean.shape == std.shape == (3, 16, 2, 3)
    assert torch.allclose(mean, (posterior.mean - 0.0609) * 1.5305, atol=1e-5)
    assert torch.allclose(std, (0.5 * posterior.logvar).exp() * 1.5305, atol=1e-5)


def test_decode_undoes_shift_and_scale(folder: Path) -> None:
    vae = DiffusersVae(DiffusersVaeConfig(model=str(folder)), "cpu")
    model = AutoencoderKL.from_pretrained(folder / "vae").eval()
    raw = torch.randn(2, 16, 2, 3, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = ((model.decode(raw).sample + 1) * 127.5).round().clamp(0, 255).permute(0, 2, 3, 1)
    got = vae.decode((raw - 0.0609) * 1.5305)
    assert got.dtype == torch.uint8
    assert got.shape == (2, 16, 24, 3)
    assert float((got.float() - expected).abs().max()) <= 1


def test_latent_shape(folder: Path) -> None:
    vae = DiffusersVae(DiffusersVaeConfig(model=str(folder)), "cpu")
    assert vae.latent_shape(64) == (16, 8, 8)
    with pytest.raises(ConfigError, match="not a multiple of 8"):
        vae.latent_shape(60)


def test_pickles_remote_code_and_wrong_places_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy")) / "vae"
    (copy / "diffusion_pytorch_model.safetensors").rename(copy / "diffusion_pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"UnsafeWeights.*diffusion_pytorch_model\.bin.*safe_serialization"):
        DiffusersVaeConfig(model=str(tmp_path / "copy")).identity()
    with pytest.raises(ModelError, match="is the subfolder right"):
        DiffusersVaeConfig(model=str(folder), subfolder="unet").identity()
    settings = (copy / "config.json").read_text()
    (copy / "config.json").write_text(settings.replace("{", '{"auto_map": {"AutoModel": "evil.Model"},', 1))
    with pytest.raises(ConfigError, match="RemoteCodeRefused"):
        DiffusersVaeConfig(model=str(tmp_path / "copy")).identity()


def test_a_hub_model_is_named_by_its_commit_alone() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert DiffusersVaeConfig(revision=commit).identity()["weights"]["revision"] == commit
    with pytest.raises(ConfigError, match="RevisionNotPinned"):
        DiffusersVaeConfig(revision="main").identity()
