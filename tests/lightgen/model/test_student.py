"""The student: exact sizes, no leak from hidden tokens, text that matters, batches that do not."""

import pytest
import torch

from lightgen.model.config import PRESETS, StudentConfig
from lightgen.model.student import Grid, Student, parameter_count

COUNTS = {
    "lightgen-0.7b": 708_847_744,
    "lightgen-official": 792_244_352,
    "lightgen-0.7b-alt": 710_468_224,
    "ci-small": 12_970_624,
    "ci-tiny": 508_288,
}
TINY = PRESETS["ci-tiny"]
INTERLEAVED = TINY.model_copy(update={"text": "interleaved", "text_depth": 0, "text_positions": 5, "grid": 3})
GRID = Grid(3, 3)


@pytest.mark.parametrize("name", COUNTS)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    assert parameter_count(PRESETS[name]) == COUNTS[name]


def test_interleaved_must_not_have_late_blocks() -> None:
    with pytest.raises(ValueError, match="text_depth must be 0"):
        StudentConfig(text="interleaved")


def _student(config: StudentConfig) -> Student:
    student = Student(config).init(7)
    for parameter in student.parameters():  # modulations start at zero; give them something to say
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    return student.eval()


def _inputs(batch: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(batch, GRID.tokens, 64, generator=generator)
    visible = torch.rand(batch, GRID.tokens, generator=generator).argsort(1)[:, :2]
    text = torch.randn(batch, 5, 64, generator=generator)
    keep = torch.tensor([[True] * n + [False] * (5 - n) for n in (5, 3, 1, 4)])[:batch]
    return tokens, visible, text, keep


def _z(student: Student, tokens: torch.Tensor, visible: torch.Tensor, *texts) -> list[torch.Tensor]:
    return student.conditions(student.encode(tokens, visible, GRID), visible, GRID, *texts)


@pytest.mark.parametrize("config", [TINY.model_copy(update={"grid": 3}), INTERLEAVED], ids=["late", "interleaved"])
def test_hidden_tokens_do_not_leak_and_visible_ones_matter(config: StudentConfig) -> None:
    student, (tokens, visible, text, keep) = _student(config), _inputs()
    aligned = student.text(text, keep)
    (z,) = _z(student, tokens, visible, aligned)
    hidden = torch.ones(4, GRID.tokens, dtype=torch.bool).scatter(1, visible, False)
    changed = torch.where(hidden.unsqueeze(-1), tokens + 3, tokens)
    assert torch.equal(_z(student, changed, visible, aligned)[0], z)
    changed = torch.where(hidden.unsqueeze(-1), tokens, tokens + 3)
    assert (_z(student, changed, visible, aligned)[0] - z).abs().amax() > 1e-3


@pytest.mark.parametrize("config", [TINY.model_copy(update={"grid": 3}), INTERLEAVED], ids=["late", "interleaved"])
def test_padding_is_ignored_unless_compat(config: StudentConfig) -> None:
    tokens, visible, text, keep = _inputs()
    noise = torch.where(keep.unsqueeze(-1), 0.0, 5.0)
    for attend, same in ((False, True), (True, False)):
        student = _student(config.model_copy(update={"attend_padding": attend}))
        (first,) = _z(student, tokens, visible, student.text(text, keep))
        (second,) = _z(student, tokens, visible, student.text(text + noise, keep))
        assert torch.allclose(first[1:], second[1:], atol=1e-5) == same


def test_word_order_matters_only_with_text_positions() -> None:
    tokens, visible, text, _ = _inputs()
    keep = torch.ones(4, 5, dtype=torch.bool)
    for positions, same in ((5, False), (0, True)):
        student = _student(INTERLEAVED.model_copy(update={"text_positions": positions}))
        (first,) = _z(student, tokens, visible, student.text(text, keep))
        (second,) = _z(student, tokens, visible, student.text(text.flip(1), keep))
        assert torch.allclose(first, second, atol=1e-5) == same


def test_late_text_shares_the_trunk_between_both_halves_of_guidance() -> None:
    student, (tokens, visible, text, keep) = _student(TINY.model_copy(update={"grid": 3})), _inputs()
    calls = []
    student.decoder[0].register_forward_hook(lambda *_: calls.append(1))
    both = _z(student, tokens, visible, student.text(text, keep), student.without_text(4))
    assert len(both) == 2
    assert len(calls) == 1


def test_everything_hidden_works() -> None:
    student, (tokens, _, text, keep) = _student(INTERLEAVED), _inputs()
    nothing = torch.zeros(4, 0, dtype=torch.long)
    (z,) = _z(student, tokens, nothing, student.text(text, keep))
    assert z.shape == (4, 9, 64)
    assert torch.isfinite(z).all()


def test_weights_are_a_function_of_the_seed() -> None:
    first, second, other = (Student(TINY).init(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["token_in.weight"], other["token_in.weight"])
