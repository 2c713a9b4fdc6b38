import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightgen.storage.build import ShardOutput, build, make_plan
from PIL import Image

from lightgen.encoders.crop import read_square
from lightgen.encoders.mirror import may_mirror
from lightgen.encoders.restore import load_encoders, read_encoders
from lightgen.encoders.vae import load_vae
from lightgen.errors import ConfigError, ModelError, TooManyRejects
from lightgen.seeds import content_id
from lightgen.stages.encode import EncodeConfig, encode, fit_vae
from lightgen.storage.feature_codec import _latents, latents_from_table, text_from_table
from lightgen.storage.store import Store, open_or_create
from lightgen.training.features_on_disk import open_features
from schemas import images as images_schema
from schemas import kept as kept_schema
from schemas.ref import ArtifactRef, Kind
from tests.tiny_encoders import tiny_t5, tiny_vae

SHARDS, ROWS = 2, 7
PCA = {"kind": "patch_pca", "channels": 5, "fit_sizes_px": (16, 32)}
WORDS = {"kind": "words", "dim": 6}


def _png(number: int) -> bytes:
    side = np.linspace(0, 255, 32)
    waves = [np.add.outer(side * ((number + k) % 3), side * (k + 1)) + 40 * number for k in range(3)]
    pixels = (np.stack(waves, -1) % 256).astype(np.uint8)
    pixels[number : number + 6, 4:12] = 255
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _row(shard: int, row: int) -> dict[str, object]:
    caption = ["a red circle", "two blue squares", "cat at left"][row % 3]
    return {"id": content_id(shard, row), "prompt_id": content_id(caption), "caption": caption}


def _fill(name: str, given: dict[str, object], schema: pa.Schema) -> object:
    if name in given:
        return given[name]
    kind = schema.field(name).type
    return 0.5 if pa.types.is_floating(kind) else 1 if pa.types.is_integer(kind) else "png"


def _table(rows: list[dict[str, object]], schema: pa.Schema) -> pa.Table:
    filled = [{name: _fill(name, row, schema) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(filled, schema=schema)


def _sealed(
    store: Store, kind: Kind, schema: pa.Schema, parents: list[ArtifactRef], broken: set[str], skip: int
) -> ArtifactRef:
    config = EncodeConfig.model_validate({"vae": PCA, "text": WORDS})
    plan = make_plan(kind, "given", [__name__], config, skip, parents, SHARDS, extra={"broken": sorted(broken)})

    def make_shard(shard: int) -> ShardOutput:
        rows = [_row(shard, row) for row in range(skip, ROWS)]
        data = [b"\x89PNG\r\n\x1a\n" if row["id"] in broken else _png(place) for place, row in enumerate(rows)]
        blobs = [{"png": one, "json": b"{}"} for one in data] if kind == "images" else None
        return ShardOutput(table=_table(rows, schema), rows_in=len(rows), blobs=blobs)

    return build(store, plan, make_shard, schema)


def _kept(store: Store, broken: set[str] = frozenset(), skip: int = 2) -> ArtifactRef:  # type: ignore[assignment]
    images = _sealed(store, "images", images_schema.SCHEMA, [], broken, 0)
    return _sealed(store, "kept", kept_schema.SCHEMA, [images], set(), skip)


def _config(**settings: object) -> EncodeConfig:
    given = {"size_px": 16, "vae": PCA, "text": WORDS, "batch": 3, "device": "cpu"}
    return EncodeConfig.model_validate(given | settings)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def test_rows_are_the_kept_images_shard_by_shard(store: Store) -> None:
    kept = _kept(store)
    vae = fit_vae(kept, _config(), store, seed=0)
    features = store.open(encode(kept, vae, _config(), store, seed=0))
    assert features.n_shards == SHARDS
    for shard in range(SHARDS):
        table = features.table(shard)
        assert table.column("id").to_pylist() == [_row(shard, row)["id"] for row in range(2, ROWS)]
        loaded, text = load_encoders(features, store, "cpu")
        mean, std = latents_from_table(table)
        squares = torch.stack([read_square(_png(row), 16) for row in range(2, ROWS)])  # type: ignore[misc]
        assert torch.equal(mean, loaded.encode(squares)[0].half())
        assert mean.shape == (ROWS - 2, 5, 4, 4)
        assert not std.any()
        flat, tokens = text_from_table(table)
        assert tokens.tolist() == [len(caption.split()) for caption in table.column("caption").to_pylist()]
        assert torch.equal(flat.float(), torch.cat(text.encode(table.column("caption").to_pylist())))


def test_safe_flips_keep_mirrored_latents_and_training_reads_half_of_them(store: Store) -> None:
    """Rows whose caption knows a side keep the plain latent in both columns; a fair coin a visit picks the column."""
    kept, config = _kept(store), _config(flips="safe")
    vae = fit_vae(kept, config, store, seed=0)
    features = store.open(encode(kept, vae, config, store, seed=0))
    assert features.ref.version != encode(kept, vae, _config(), store, seed=0).version
    table, (loaded, _) = features.table(0), load_encoders(features, store, "cpu")
    squares = torch.stack([read_square(_png(row), 16) for row in range(2, ROWS)])  # type: ignore[misc]
    plain, mirrored = (loaded.encode(each)[0].half() for each in (squares, squares.flip(2)))
    allowed = torch.tensor([may_mirror(caption) for caption in table.column("caption").to_pylist()])
    assert 0 < int(allowed.sum()) < len(allowed)
    found = _latents(table, "mirrored_mean")
    assert torch.equal(found, torch.where(allowed[:, None, None, None], mirrored, plain))
    assert torch.equal(_latents(table, "latent_mean"), plain)
    stored = open_features(features)
    rows = np.arange(ROWS - 2)
    seen = torch.stack([stored.batch(rows, np.full_like(rows, visit)).mean for visit in range(200)])
    told = (mirrored != plain).flatten(1).any(1) & allowed
    shares = (seen == mirrored).flatten(2).all(2).float().mean(0)[told]
    assert len(shares)
    assert float((shares - 0.5).abs().max()) < 0.15
    assert bool((seen[:, ~allowed] == plain[~allowed]).all())


def test_encoders_are_described_beside_the_features(store: Store) -> None:
    kept = _kept(store)
    vae = fit_vae(kept, _config(), store, seed=0)
    features = store.open(encode(kept, vae, _config(), store, seed=0))
    described = read_encoders(features)
    assert (described.size_px, described.latent_shape, described.text_dim) == (16, (5, 4, 4), 6)
    assert described.vae.version == vae.version
    written = json.loads(features.file("encoders.json").read_text())
    assert written["vae"]["kind"] == "patch_pca"
    assert written["text"]["config"]["kind"] == "words"


def test_batch_size_and_device_change_neither_name_nor_content(store: Store, tmp_path: Path) -> None:
    other = open_or_create(str(tmp_path / "other"))
    found = []
    for place, batch in ((store, 1), (other, 5)):
        kept = _kept(place)
        config = _config(batch=batch)
        found.append(encode(kept, fit_vae(kept, config, place, seed=0), config, place, seed=0))
    assert found[0].version == found[1].version
    assert found[0].fingerprint == found[1].fingerprint


def test_the_second_time_nothing_is_loaded_or_computed(store: Store, tmp_path: Path) -> None:
    kept = _kept(store)
    folder = tiny_vae(tmp_path / "tiny")
    config = _config(vae={"kind": "diffusers", "model": str(folder)})
    vae = fit_vae(kept, config, store, seed=0)
    first = encode(kept, vae, config, store, seed=0)
    settings = folder / "vae" / "config.json"
    settings.write_text(settings.read_text().replace("AutoencoderKL", "SomethingElse").replace("16", "17"))
    assert encode(kept, vae, config, store, seed=0) == first
    assert len(store.log("features")) == 1


def test_both_resolutions_share_one_fitted_vae(store: Store) -> None:
    kept = _kept(store)
    small, large = _config(), _config(size_px=32)
    vae = fit_vae(kept, small, store, seed=0)
    assert fit_vae(kept, large, store, seed=0) == vae
    features = encode(kept, vae, large, store, seed=0)
    assert features.version != encode(kept, vae, small, store, seed=0).version
    assert latents_from_table(store.open(features).table(0))[0].shape == (ROWS - 2, 5, 8, 8)
    described = json.loads(store.open(vae).file("vae.json").read_text())
    assert set(described["psnr_db"]) == {"16", "32"}


def test_a_fitted_vae_comes_back_as_it_was(store: Store) -> None:
    kept = _kept(store)
    version = store.open(fit_vae(kept, _config(), store, seed=0))
    names = version.table().column("name").to_pylist()
    assert names == ["basis", "mean", "scale"]
    vae = load_vae(version, "cpu")
    image = read_square(_png(3), 32)
    assert isinstance(image, torch.Tensor)
    error = vae.decode(vae.encode(image[None])[0]).double() - image[None].double()
    psnr = 10 * torch.log10(255**2 / error.square().mean())
    assert float(psnr) > 15


def test_another_vae_than_the_recipes_is_refused(store: Store) -> None:
    kept = _kept(store)
    vae = fit_vae(kept, _config(), store, seed=0)
    with pytest.raises(ConfigError, match=r"encode\.vae says"):
        encode(kept, vae, _config(vae={**PCA, "whitening": 1.0}), store, seed=0)


def test_undecodable_images_are_rejects_and_too_many_are_an_error(store: Store) -> None:
    broken = str(_row(1, 4)["id"])
    kept = _kept(store, {broken})
    vae = fit_vae(kept, _config(), store, seed=0)
    with pytest.raises(TooManyRejects, match="image_"):
        encode(kept, vae, _config(), store, seed=0)
    features = store.open(encode(kept, vae, _config(max_reject_fraction=0.5), store, seed=0))
    assert features.rows == 2 * (ROWS - 2) - 1
    (reject,) = features.rejects().to_pylist()
    assert (reject["id"], reject["reason"]) == (broken, "image_truncated")


def test_values_that_are_not_finite_are_rejected(store: Store, tmp_path: Path) -> None:
    """A VAE whose scale overflows float16 on every image."""
    kept = _kept(store)
    folder = tiny_vae(tmp_path / "tiny")
    settings = folder / "vae" / "config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "scaling_factor": 1e9}))
    config = _config(vae={"kind": "diffusers", "model": str(folder)}, max_reject_fraction=1.0)
    features = store.open(encode(kept, fit_vae(kept, config, store, seed=0), config, store, seed=0))
    assert features.rows == 0
    assert features.reject_reasons == {"feature_nonfinite": 2 * (ROWS - 2)}


def test_pretrained_encoders(store: Store, tmp_path: Path) -> None:
    kept = _kept(store)
    folder = tiny_vae(tmp_path / "tiny")
    t5 = {"kind": "t5", "model": str(tiny_t5(tmp_path / "t5")), "dtype": "float32"}
    config = _config(vae={"kind": "diffusers", "model": str(folder)}, text=t5)
    vae_ref = fit_vae(kept, config, store, seed=0)
    features = store.open(encode(kept, vae_ref, config, store, seed=0))
    vae, text = load_encoders(features, store, "cpu")
    table = features.table(1)
    mean, std = latents_from_table(table)
    squares = torch.stack([read_square(_png(row), 16) for row in range(2, ROWS)])  # type: ignore[misc]
    expected_mean, expected_std = vae.encode(squares)
    assert torch.allclose(mean.float(), expected_mean, atol=4e-3)
    assert torch.allclose(std.float(), expected_std, rtol=2e-3)
    assert float(std.min()) > 0
    flat, tokens = text_from_table(table)
    assert flat.dtype == torch.bfloat16
    assert torch.allclose(flat.float(), torch.cat(text.encode(table.column("caption").to_pylist())), atol=2e-2)
    assert tokens.tolist() == [len(caption.split()) + 1 for caption in table.column("caption").to_pylist()]
    rows = {row["name"]: row for row in store.open(vae_ref).table().to_pylist()}
    assert rows["decoder.conv_out.bias"]["shape"] == "3"


def test_weights_that_changed_after_sealing_are_refused(store: Store, tmp_path: Path) -> None:
    kept = _kept(store)
    folder = tiny_vae(tmp_path / "tiny")
    config = _config(vae={"kind": "diffusers", "model": str(folder)})
    version = store.open(fit_vae(kept, config, store, seed=0))
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-3] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(ModelError, match="are not those of vae@"):
        load_vae(version, "cpu")
