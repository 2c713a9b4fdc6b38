"""Batches are a function of (seed, step)."""

import numpy as np
import pyarrow as pa
import torch

from lightgen.storage.feature_codec import latent_array, text_array
from lightgen.training.data import FeatureSet, pad_text, read_features, rows_of_step, stack_text, step_generator
from schemas.features import schema


def test_every_epoch_reads_every_row_once_across_batches() -> None:
    rows, batch = 10, 4
    read = np.concatenate([rows_of_step(3, step, rows, batch) for step in range(5)])  # two epochs
    assert sorted(read[:10]) == sorted(read[10:]) == list(range(10))
    assert list(read[:10]) != list(read[10:])


def test_batches_larger_than_the_set_and_resume_without_state() -> None:
    assert np.bincount(rows_of_step(0, 0, 3, 9)).tolist() == [3, 3, 3]
    np.testing.assert_array_equal(rows_of_step(1, 7, 10, 4), rows_of_step(1, 7, 10, 4))
    assert list(rows_of_step(1, 7, 10, 4)) != list(rows_of_step(2, 7, 10, 4))


def test_padding_marks_true_words_and_keeps_a_key_for_an_empty_text() -> None:
    flat = torch.arange(8.0).reshape(4, 2)
    padded, keep = pad_text(flat, np.array([0, 1, 4]), np.array([1, 3, 0]), 3)
    assert keep.tolist() == [[True, False, False], [True, True, True], [True, False, False]]
    assert torch.equal(padded[1], flat[1:4])
    assert padded[0, 1:].abs().sum() == padded[2].abs().sum() == 0
    both, mask = stack_text([flat[:1], flat[1:4]])
    assert torch.equal(both[1], flat[1:4])
    assert mask.tolist() == [[True, False, False], [True, True, True]]


def test_streams_differ_by_step_and_purpose() -> None:
    draws = {
        float(torch.rand((), generator=step_generator(0, step, purpose))) for step in (0, 1) for purpose in ("a", "b")
    }
    assert len(draws) == 4


def test_latents_are_drawn_from_their_posterior() -> None:
    mean, std = torch.full((200, 2, 4, 4), 3.0).half(), torch.full((200, 2, 4, 4), 0.5).half()
    features = FeatureSet(mean, std, torch.zeros(200, 3), np.arange(200), np.ones(200, np.int64))
    latents = features.batch(np.arange(200), step_generator(0, 0, "x")).latents
    assert abs(float(latents.mean()) - 3) < 0.02
    assert abs(float(latents.std()) - 0.5) < 0.02


def test_features_are_read_from_their_table() -> None:
    texts = [torch.ones(2, 3), torch.full((1, 3), 2.0)]
    latents = torch.randn(2, 2, 4, 4)
    names = ["id", "prompt_id", "caption", "latent_mean", "latent_std", "text", "text_tokens"]
    ids = pa.array(["a", "b"])
    columns = [ids, ids, ids, latent_array(latents), latent_array(latents * 0), text_array(texts, "float16")]
    table = pa.table([*columns, pa.array([2, 1], pa.int32())], names=names).cast(schema((2, 4, 4), 3, "float16"))
    features = read_features(table)
    assert features.std is None
    assert features.latent_shape == (2, 4, 4)
    assert torch.equal(features.mean, latents.half())
    batch = features.batch(np.array([1, 0]), step_generator(0, 0, "x"))
    assert torch.equal(batch.text[0, 0], torch.full((3,), 2.0))
    assert batch.keep.tolist() == [[True, False], [True, True]]
