"""Keys and values of the text are computed once a draw, and change nothing."""

from collections import Counter

import pytest
import torch

from lightgen.model.config import StudentConfig
from lightgen.model.sampling import SampleConfig, sample_latents
from lightgen.model.student import Grid, Student, Text

LATE = StudentConfig(
    width=24, heads=2, encoder_depth=1, decoder_depth=3, text_depth=2, aligner_depth=1, head_width=16, head_depth=1,
    text_dim=6, latent_channels=3, grid=4,
)  # fmt: skip
INTERLEAVED = LATE.model_copy(update={"text": "interleaved", "text_depth": 0, "text_positions": 5})
GRID = Grid(4, 3)
SETTINGS = SampleConfig(iterations=7, head_steps=8, guidance=3.0, clip_x0=4.0)
SEEDS = [5, 6]
PLACES = pytest.mark.parametrize("config", [LATE, INTERLEAVED], ids=["late", "interleaved"])


def _student(config: StudentConfig) -> Student:
    student = Student(config).init(0)
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    return student.eval()


@torch.no_grad()
def _text(student: Student, seed: int) -> Text:
    keep = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    return student.text(torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(seed)), keep)


def _read_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Student, "read", lambda _, text: text)


@PLACES
@pytest.mark.parametrize("negative", [False, True], ids=["null", "negative"])
def test_a_draw_is_the_same_as_when_the_text_is_read_in_every_pass(
    config: StudentConfig, negative: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = _student(config)
    text, against = _text(student, 1), _text(student, 2) if negative else None
    ours = sample_latents(student, text, GRID, SEEDS, SETTINGS, against=against)
    other = sample_latents(student, _text(student, 3), GRID, SEEDS, SETTINGS, against=against)
    _read_by_nobody(monkeypatch)
    theirs = sample_latents(student, text, GRID, SEEDS, SETTINGS, against=against)
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not torch.allclose(ours, other, atol=1e-2)  # the text matters here


@PLACES
def test_padding_stays_unheard(config: StudentConfig) -> None:
    student = _student(config)
    text = _text(student, 1)
    assert text.keep is not None
    louder = text._replace(tokens=torch.where(text.keep.unsqueeze(-1), text.tokens, text.tokens + 5))
    first, second = (sample_latents(student, each, GRID, SEEDS, SETTINGS) for each in (text, louder))
    assert torch.allclose(first, second, atol=1e-6)


@PLACES
def test_each_block_reads_each_text_once_a_draw(config: StudentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    student, reads = _student(config), Counter()
    for name, module in student.named_modules():
        if name.endswith("key_value"):
            module.register_forward_hook(lambda *_, name=name: reads.update([name]))
    sample_latents(student, _text(student, 1), GRID, SEEDS, SETTINGS)
    assert len(reads) == len(student.text_blocks) == (3 if config is INTERLEAVED else 2)
    assert set(reads.values()) == {2}  # with the text and without
    reads.clear()
    sample_latents(student, _text(student, 1), GRID, SEEDS, SETTINGS.model_copy(update={"guidance": 1.0}))
    assert set(reads.values()) == {1}
    reads.clear()
    _read_by_nobody(monkeypatch)
    sample_latents(student, _text(student, 1), GRID, SEEDS, SETTINGS)
    assert set(reads.values()) == {2 * SETTINGS.iterations}


def test_a_changed_text_forgets_what_was_read() -> None:
    student = _student(LATE)
    read = student.read(_text(student, 1))
    assert len(read.read) == 2
    assert student.drop_text(read, torch.tensor([True, False])).read == ()
