import numpy as np
import pytest
import torch

from lightgen.encoders.patch_pca import PatchPcaConfig, fit
from lightgen.errors import ConfigError


def _images(count: int, size: int = 24) -> torch.Tensor:
    """Smooth, correlated colour fields: what a linear autoencoder is for."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    return (fine * 255).round().to(torch.uint8).movedim(1, -1).contiguous()


def test_components_equal_numpys_svd_up_to_sign() -> None:
    images, config = _images(30), PatchPcaConfig(patch_px=2, channels=5, fit_sizes_px=(24,))
    fitted = fit([images], config)
    patches = np.array(
        [
            image[y : y + 2, x : x + 2].numpy().ravel()
            for image in images
            for y in range(0, 24, 2)
            for x in range(0, 24, 2)
        ]
    )
    values = patches / 127.5 - 1
    _, singular, vectors = np.linalg.svd(values - values.mean(0), full_matrices=False)
    assert np.allclose(fitted.vae.mean.numpy(), values.mean(0), atol=1e-12)
    cosine = np.abs((fitted.vae.basis.numpy() * vectors[:5].T).sum(0))
    assert np.allclose(cosine, 1, atol=1e-8)
    assert fitted.explained == pytest.approx((singular[:5] ** 2).sum() / (singular**2).sum(), abs=1e-10)


def test_the_fit_does_not_depend_on_order_or_batching() -> None:
    images, config = _images(20), PatchPcaConfig(fit_sizes_px=(24,))
    whole = fit([images], config).vae
    pieces = fit([images[13:], images[:4], images[4:13]], config).vae
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, pieces.tensors()[name]), name


@pytest.mark.parametrize(("whitening", "expected"), [(1.0, 1.0), (0.0, None)])
def test_whitening_sets_the_variance_of_each_channel(whitening: float, expected: float | None) -> None:
    images = _images(200)
    vae = fit([images], PatchPcaConfig(patch_px=2, channels=4, whitening=whitening, fit_sizes_px=(24,))).vae
    latents, _ = vae.encode(images)
    variance = latents.double().var((0, 2, 3), correction=0)
    assert float(variance.mean()) == pytest.approx(1, abs=1e-3)
    if expected is not None:
        assert torch.allclose(variance, torch.full((4,), expected, dtype=torch.float64), atol=1e-3)
    else:
        assert float(variance[0]) > 10 * float(variance[3])


def test_all_components_give_the_pixels_back_through_float16() -> None:
    images = torch.randint(0, 256, (6, 8, 16, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    vae = fit([images], PatchPcaConfig(patch_px=2, channels=12, fit_sizes_px=(8,))).vae
    mean, std = vae.encode(images)
    assert mean.shape == (6, 12, 4, 8)
    assert not std.any()
    assert torch.equal(vae.decode(mean.half().float()), images)


def test_pixels_and_patches_are_not_transposed() -> None:
    image = torch.zeros(1, 8, 12, 3, dtype=torch.uint8)
    image[0, 0:4, 8:12] = 200
    vae = fit([image], PatchPcaConfig(channels=1, fit_sizes_px=(8,))).vae
    latent = vae.encode(image)[0][0, 0]
    assert latent.shape == (2, 3)
    odd = (latent - latent.median()).abs() > 0.1
    assert odd.nonzero().tolist() == [[0, 2]]


def test_encoding_does_not_depend_on_the_batch() -> None:
    images = _images(9)
    vae = fit([images], PatchPcaConfig(fit_sizes_px=(24,))).vae
    together = vae.encode(images)[0].half()
    alone = torch.cat([vae.encode(image[None])[0] for image in images]).half()
    assert torch.equal(together, alone)


def test_latents_beyond_the_pixels_are_clamped() -> None:
    vae = fit([_images(5)], PatchPcaConfig(fit_sizes_px=(24,))).vae
    pixels = vae.decode(torch.full((1, 16, 2, 2), 1e4))
    assert pixels.dtype == torch.uint8
    assert set(pixels.unique().tolist()) <= set(range(256))


def test_flat_images_keep_finite_latents() -> None:
    flat = torch.full((3, 8, 8, 3), 77, dtype=torch.uint8)
    vae = fit([flat], PatchPcaConfig(fit_sizes_px=(8,), whitening=1.0)).vae
    mean, _ = vae.encode(flat)
    assert torch.isfinite(mean).all()
    assert torch.equal(vae.decode(mean), flat)


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="more than the 12 values"):
        PatchPcaConfig(patch_px=2, channels=13)
    with pytest.raises(ValueError, match="multiple of patch_px"):
        PatchPcaConfig(fit_sizes_px=(30,))
    with pytest.raises(ConfigError, match="not a multiple"):
        fit([_images(2)], PatchPcaConfig(fit_sizes_px=(24,))).vae.latent_shape(30)
    with pytest.raises(ConfigError, match="no images"):
        fit([], PatchPcaConfig())
