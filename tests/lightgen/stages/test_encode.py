"""Stages `fit_vae` and `encode`: features of every kept image, whatever the batch; encoders named by their content."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightgen.encoders.crop import read_square
from lightgen.encoders.mirror import may_mirror
from lightgen.encoders.restore import (
    Encoders,
    load_encoders,
    load_vae_of,
    read_image_encoding,
    read_text_encoding,
)
from lightgen.encoders.tiny import tiny_t5, tiny_vae
from lightgen.encoders.vae import Vae, load_vae, read_identity
from lightgen.errors import ConfigError, ModelError, StoreCorrupt, TooManyRejects
from lightgen.seeds import content_id
from lightgen.stages import encode as stage
from lightgen.stages import texts as texts_stage
from lightgen.stages.encode import EncodeConfig, encode
from lightgen.stages.fit_vae import FitVaeConfig, fit_vae
from lightgen.stages.texts import TextsConfig, texts
from lightgen.storage.feature_codec import _latents, latents_from_table
from lightgen.storage.pixels import encode_image
from lightgen.storage.quantised import DAMAGE_FILE
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.training.features_on_disk import open_features
from lightgen.training.texts_on_disk import open_texts
from lightgen.work import Context, RunConfig
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import image, images, kept_of

ROWS, SKIPPED = 7, 2
PCA = {"kind": "patch_pca", "channels": 5, "fit_sizes_px": (16, 32)}
WORDS = {"kind": "words", "dim": 6}


def _png(number: int) -> bytes:
    side = np.linspace(0, 255, 32)
    waves = [np.add.outer(side * ((number + k) % 3), side * (k + 1)) + 40 * number for k in range(3)]
    pixels = (np.stack(waves, -1) % 256).astype(np.uint8)
    pixels[number : number + 6, 4:12] = 255
    return encode_image(pixels, "png")


def _id(shard: int, row: int) -> str:
    return content_id(f"{shard} {row}")


def _given(store: Store, broken: str = "") -> tuple[ArtifactRef, ArtifactRef]:
    """Kept rows and images, in two shards; the first rows of each shard are not kept."""
    captions = ["a red circle", "two blue squares", "cat at left"]
    rows = []
    for shard in range(2):
        for row in range(ROWS):
            data = b"\x89PNG\r\n\x1a\n" if _id(shard, row) == broken else _png(row)
            rows.append(image(f"{shard} {row}", data, captions[row % 3]))
    drawn = images(store, rows, [rows[:ROWS], rows[ROWS:]])
    wanted = {_id(shard, row) for shard in range(2) for row in range(SKIPPED, ROWS)}
    return kept_of(store, drawn, wanted), drawn


def _config(**settings: object) -> EncodeConfig:
    return EncodeConfig.model_validate({"size_px": 16, "vae": PCA, "batch": 3} | settings)


def _context(store: Store) -> Context:
    return Context(store, 0, RunConfig(device="cpu"))


def _fit(store: Store, config: EncodeConfig, given: tuple[ArtifactRef, ArtifactRef] | None = None) -> ArtifactRef:
    return fit_vae(*(given or _given(store)), FitVaeConfig(vae=config.vae), _context(store))


def _encode(store: Store, config: EncodeConfig, broken: str = "") -> Version:
    given = _given(store, broken)
    return store.open(encode(*given, _fit(store, config, given), config, _context(store)))


def _vae(features: Version, store: Store) -> Vae:
    return load_vae_of(read_image_encoding(features), store, "cpu")


def _squares(size_px: int = 16) -> torch.Tensor:
    return torch.stack([read_square(_png(row), size_px) for row in range(SKIPPED, ROWS)])  # type: ignore[misc]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def test_rows_are_the_kept_images_shard_by_shard(store: Store) -> None:
    features = _encode(store, _config())
    assert features.n_shards == 2
    for shard in range(2):
        table = features.table(shard)
        assert table.column("id").to_pylist() == [_id(shard, row) for row in range(SKIPPED, ROWS)]
        loaded = _vae(features, store)
        mean, std = latents_from_table(table)
        assert torch.equal(mean, loaded.encode(_squares())[0].half())
        assert mean.shape == (ROWS - SKIPPED, 5, 4, 4)
        assert not std.any()


def test_safe_flips_keep_mirrored_latents_and_training_reads_half_of_them(store: Store) -> None:
    """Rows whose caption knows a side keep the plain latent in both columns; a fair coin a visit picks the column."""
    features = _encode(store, _config(flips="safe"))
    assert features.ref.version != _encode(store, _config()).ref.version
    table, loaded = features.table(0), _vae(features, store)
    plain, mirrored = (loaded.encode(each)[0].half() for each in (_squares(), _squares().flip(2)))
    allowed = torch.tensor([may_mirror(caption) for caption in table.column("caption").to_pylist()])
    assert 0 < int(allowed.sum()) < len(allowed)
    found = _latents(table, "mirrored_mean")
    assert torch.equal(found, torch.where(allowed[:, None, None, None], mirrored, plain))
    assert torch.equal(_latents(table, "latent_mean"), plain)
    words = texts(features.parent("kept"), TextsConfig.model_validate({"encoder": WORDS}), _context(store))
    stored = open_features(features, open_texts(store.open(words)))
    rows = np.arange(ROWS - SKIPPED)
    seen = torch.stack([stored.batch(rows, np.full_like(rows, visit)).mean for visit in range(200)])
    told = (mirrored != plain).flatten(1).any(1) & allowed
    shares = (seen == mirrored).flatten(2).all(2).float().mean(0)[told]
    assert len(shares)
    assert float((shares - 0.5).abs().max()) < 0.15
    assert bool((seen[:, ~allowed] == plain[~allowed]).all())


def test_published_flips_mirror_every_image_whatever_its_caption_says(store: Store) -> None:
    features = _encode(store, _config(flips="all"))
    table, loaded = features.table(0), _vae(features, store)
    assert not all(may_mirror(caption) for caption in table.column("caption").to_pylist())
    assert torch.equal(_latents(table, "mirrored_mean"), loaded.encode(_squares().flip(2))[0].half())
    assert features.ref.version != _encode(store, _config(flips="safe")).ref.version


def test_encoders_are_described_beside_the_features(store: Store) -> None:
    config = _config()
    features = _encode(store, config)
    described = read_image_encoding(features)
    assert (described.size_px, described.latent_shape) == (16, (5, 4, 4))
    assert described.vae == features.parent("vae").content
    assert read_identity(store.open(features.parent("vae"))) == json.loads(json.dumps(config.vae.identity()))


def test_the_batch_size_changes_neither_name_nor_content(store: Store, tmp_path: Path) -> None:
    other = open_or_create(str(tmp_path / "other"))
    found = [_encode(place, _config(batch=batch)).ref for place, batch in ((store, 1), (other, 5))]
    assert found[0].version == found[1].version
    assert found[0].fingerprint == found[1].fingerprint


def test_the_second_time_nothing_is_loaded_or_computed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(vae={"kind": "diffusers", "model": str(tiny_vae(tmp_path / "tiny"))})
    first = _encode(store, config)
    monkeypatch.setattr(stage, "load_vae", lambda *_: pytest.fail("loaded again"))
    monkeypatch.setattr(stage, "files_of", lambda *_: pytest.fail("images were read again"))
    assert _encode(store, config).ref == first.ref
    assert len(store.log("features")) == 1


def test_both_resolutions_share_one_fitted_vae(store: Store) -> None:
    large, given = _config(size_px=32), _given(store)
    vae = _fit(store, large, given)
    assert _fit(store, _config(), given) == vae
    features = _encode(store, large)
    assert features.ref.version != _encode(store, _config()).ref.version
    assert latents_from_table(features.table(0))[0].shape == (ROWS - SKIPPED, 5, 8, 8)
    figures = json.loads(store.open(vae).file("fit.json").read_text())
    assert set(figures["psnr_db"]) == {"16", "32"}


def test_a_fitted_vae_comes_back_as_it_was(store: Store) -> None:
    version = store.open(_fit(store, _config()))
    assert version.table().column("name").to_pylist() == ["basis", "mean", "scale"]
    vae = load_vae(version, store, "cpu")
    pixels = read_square(_png(3), 32)
    assert isinstance(pixels, torch.Tensor)
    error = vae.decode(vae.encode(pixels[None])[0]).double() - pixels[None].double()
    assert float(10 * torch.log10(255**2 / error.square().mean())) > 15


def test_another_vae_than_the_recipes_is_refused(store: Store) -> None:
    given = _given(store)
    vae = _fit(store, _config(), given)
    with pytest.raises(ConfigError, match=r"encode\.vae says"):
        encode(*given, vae, _config(vae={**PCA, "whitening": 1.0}), _context(store))


def test_undecodable_images_are_rejects_and_too_many_are_an_error(store: Store) -> None:
    broken = _id(1, 4)
    with pytest.raises(TooManyRejects, match="image_"):
        _encode(store, _config(), broken)
    features = _encode(store, _config(max_reject_fraction=0.5), broken)
    assert features.rows == 2 * (ROWS - SKIPPED) - 1
    (reject,) = features.rejects().to_pylist()
    assert (reject["id"], reject["reason"]) == (broken, "image_truncated")


def test_kept_rows_of_other_images_are_corrupt(store: Store) -> None:
    kept, _ = _given(store)
    others = images(store, [image(f"other {n}", _png(n)) for n in range(4)], 2)
    with pytest.raises(StoreCorrupt, match="is not there"):
        encode(kept, others, _fit(store, _config()), _config(), _context(store))


def test_values_that_are_not_finite_are_rejected(store: Store, tmp_path: Path) -> None:
    """A VAE whose scale overflows float16 on every image."""
    folder = tiny_vae(tmp_path / "tiny")
    settings = folder / "vae" / "config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "scaling_factor": 1e9}))
    config = _config(vae={"kind": "diffusers", "model": str(folder)}, max_reject_fraction=1.0)
    features = _encode(store, config)
    assert features.rows == 0
    assert features.reject_reasons == {"feature_nonfinite": 2 * (ROWS - SKIPPED)}


def test_pretrained_encoders(store: Store, tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "tiny")
    features = _encode(store, _config(vae={"kind": "diffusers", "model": str(folder)}))
    vae = _vae(features, store)
    table = features.table(1)
    mean, std = latents_from_table(table)
    expected_mean, expected_std = vae.encode(_squares())
    assert torch.allclose(mean.float(), expected_mean, atol=4e-3)
    assert torch.allclose(std.float(), expected_std, rtol=2e-3)
    assert float(std.min()) > 0
    rows = {row["name"]: row for row in store.open(features.parent("vae")).table().to_pylist()}
    assert rows["decoder.conv_out.bias"]["shape"] == "3"


def test_deviations_in_8_bits_are_near_and_what_that_costs_is_sealed_beside_them(store: Store, tmp_path: Path) -> None:
    vae = {"kind": "diffusers", "model": str(tiny_vae(tmp_path / "tiny"))}
    plain, version = _encode(store, _config(vae=vae)), _encode(store, _config(vae=vae, std_bits=8))
    assert version.ref.version != plain.ref.version
    (mean, std), (same, near) = latents_from_table(plain.table()), latents_from_table(version.table())
    assert torch.equal(mean, same)
    wrong = float((near.double() - std.double()).norm() / std.double().norm())
    assert 0 < wrong < 0.02
    assert json.loads(version.file(DAMAGE_FILE).read_bytes())["relative_l2"] == pytest.approx(wrong, rel=0.5)
    with pytest.raises(ConfigError, match=r"deviations of latents would be stored .* take std_bits: 16"):
        _encode(open_or_create(str(tmp_path / "other")), _config(vae=vae, std_bits=8, max_error=1e-4))


def test_weights_that_changed_after_sealing_are_refused(store: Store, tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "tiny")
    version = store.open(_fit(store, _config(vae={"kind": "diffusers", "model": str(folder)})))
    load_vae(version, store, "cpu")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-3] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(ModelError, match=f"are not where they were .{folder}"):
        load_vae(version, store, "cpu")


def test_weights_that_were_moved_are_found_again_and_nothing_is_computed_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a recipe has named their new place; versions name weights by digest, never by path."""
    folders = {"vae": tiny_vae(tmp_path / "vae"), "t5": tiny_t5(tmp_path / "t5")}

    def config() -> EncodeConfig:
        return _config(vae={"kind": "diffusers", "model": str(folders["vae"])})

    def words() -> TextsConfig:
        t5 = {"kind": "t5", "model": str(folders["t5"]), "dtype": "float32"}
        return TextsConfig.model_validate({"encoder": t5})

    features = _encode(store, config())
    read = store.open(texts(features.parent("kept"), words(), _context(store)))
    encoders = Encoders.of(read_image_encoding(features), read_text_encoding(read))
    before = _vae(features, store).encode(_squares())[0]
    for name, folder in folders.items():
        folders[name] = folder.rename(tmp_path / f"{name}-moved")
    with pytest.raises(ModelError, match=r"are not where they were .*run a recipe that names their place"):
        _vae(features, store)
    monkeypatch.setattr(stage, "files_of", lambda *_: pytest.fail("encoded again"))
    monkeypatch.setattr(texts_stage, "_encoded", lambda *_: pytest.fail("encoded again"))
    assert _encode(store, config()).ref == features.ref
    assert texts(features.parent("kept"), words(), _context(store)) == read.ref
    vae, text = load_encoders(encoders, store, "cpu")
    assert torch.equal(vae.encode(_squares())[0], before)
    assert text.encode(["a red circle"])[0].shape == (4, 24)
