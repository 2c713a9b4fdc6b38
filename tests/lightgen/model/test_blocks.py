"""Blocks with nothing to see, blocks computed again in the backward pass, and compiled blocks."""

import copy
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightgen.model import blocks
from lightgen.model.blocks import SHORT, VECTOR, CrossAttention, Mlp, SelfAttention
from lightgen.model.config import StudentConfig
from lightgen.model.masking import gather_tokens
from lightgen.model.student import Grid, Student

LATE = StudentConfig(
    width=24, heads=2, encoder_depth=3, decoder_depth=2, text_depth=4, aligner_depth=2, head_width=16, head_depth=2,
    text_dim=6, latent_channels=3, grid=4, dropout=0.3,
)  # fmt: skip
INTERLEAVED = LATE.model_copy(update={"text": "interleaved", "text_depth": 0, "text_positions": 5})
PLACES = pytest.mark.parametrize("config", [LATE, INTERLEAVED], ids=["late", "interleaved"])
GRID, BATCH = Grid(4, 5), 2


def _student(config: StudentConfig) -> Student:
    student = Student(config).init(0)
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    return student.train()


def _loss(student: Student, visible: int, device: str = "cpu") -> Tensor:
    """Of one step: everything from the text encoder's vectors to the head, under dropout of a fixed seed."""
    torch.manual_seed(1)
    order = torch.stack([torch.randperm(GRID.tokens) for _ in range(BATCH)]).to(device)
    tokens, words = torch.randn(BATCH, GRID.tokens, 12).to(device), torch.randn(BATCH, 7, 6).to(device)
    keep = torch.tensor([[True] * 7, [True] * 3 + [False] * 4], device=device)
    seen, hidden = order[:, :visible], order[:, visible:]
    text = student.drop_text(student.text(words, keep), torch.tensor([False, True], device=device))
    (z,) = student.conditions(student.encode(tokens, seen, GRID), seen, GRID, text)
    condition = student.head.condition(gather_tokens(z, hidden).flatten(0, 1))
    rows, noise = torch.randn(2, len(condition), 12).to(device)
    steps = torch.arange(len(condition), device=device)
    return student.errors(student.head, rows, steps, noise, condition, bound=True).mean()


def _gradients(student: Student, visible: int, device: str = "cpu") -> dict[str, Tensor | None]:
    student.zero_grad(set_to_none=True)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        loss = _loss(student, visible, device)
    loss.backward()
    return {name: parameter.grad for name, parameter in student.named_parameters()}


@PLACES
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_every_parameter_has_a_gradient_when_nothing_is_visible(
    config: StudentConfig, bf16: bool, recompute: bool
) -> None:
    student = _student(config)
    student.recompute = recompute
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = _gradients(student, 0)
    missing = [name for name, gradient in found.items() if gradient is None]
    assert missing == []
    still = {name for name, gradient in found.items() if gradient is not None and not gradient.any()}
    assert {name for name in found if name.startswith(("encoder", "token_in", "token_norm"))} <= still
    assert "decoder.0.mlp.up.weight" not in still


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@PLACES
def test_every_parameter_has_a_gradient_when_nothing_is_visible_on_a_gpu(config: StudentConfig) -> None:
    found = _gradients(_student(config).cuda(), 0, "cuda")
    assert [name for name, gradient in found.items() if gradient is None] == []


@PLACES
def test_recomputing_changes_no_gradient(config: StudentConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    student, passes = _student(config), Counter()
    for block in (*student.text.blocks, *student.encoder, *student.text_blocks):
        block.register_forward_pre_hook(lambda *_, block=block: passes.update([block]))
    kept = _gradients(student, 3)
    assert set(passes.values()) == {1}
    student.recompute = True
    passes.clear()
    again = _gradients(student, 3)
    assert set(passes.values()) == {2}
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    with torch.random.fork_rng():  # other dropout is another gradient: what is compared above depends on the seed
        seed = torch.manual_seed
        monkeypatch.setattr(torch, "manual_seed", lambda value: seed(value + 1))
        assert not torch.equal(kept["decoder_norm.weight"], _gradients(student, 3)["decoder_norm.weight"])


def test_recomputing_is_a_matter_of_gradients_and_no_part_of_the_weights() -> None:
    student, saved = _student(LATE), []
    names = list(student.state_dict())
    student.recompute = True
    assert list(student.state_dict()) == names
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        with torch.no_grad():
            _loss(student, 3)
        assert saved == []
        _loss(student.eval(), 3)  # DPO trains without dropout
        some = len(saved)
        student.recompute = False
        _loss(student, 3)
    assert 2 * some < len(saved) - some


@pytest.fixture
def limits():
    """Fresh compiler state, and torch's limits as they were."""
    from torch._dynamo import config

    torch._dynamo.reset()
    with config.patch(recompile_limit=config.recompile_limit):
        yield config
    torch._dynamo.reset()


@PLACES
def test_each_kind_of_block_is_compiled_once_a_length(config: StudentConfig, limits) -> None:
    plain, graphs = _student(config), []
    names = list(plain.state_dict())
    expected = {visible: _gradients(plain, visible) for visible in (3, 6)}

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]):
        graphs.append(graph)
        return graph.forward

    student = copy.deepcopy(plain).compile_pieces(backend)
    assert list(student.state_dict()) == names
    for visible in (3, 6):
        found = _gradients(student, visible)
        for name, gradient in expected[visible].items():
            torch.testing.assert_close(found[name], gradient, msg=name)
    # Aligner, decoder and, where they are blocks of their own, late text; encoder and errors for each length.
    fixed = 2 if config is INTERLEAVED else 3
    assert len(graphs) == fixed + 2 * 2
    for visible in (6, 3):
        _gradients(student, visible)
    assert len(graphs) == fixed + 2 * 2
    _gradients(student, 4)
    assert len(graphs) == fixed + 2 * 3


def test_noise_head_and_errors_are_compiled_as_one_piece(limits) -> None:
    student, graphs = _student(LATE), []
    student.compile_pieces(lambda graph, _: graphs.append(graph) or graph.forward)
    _loss(student, 3)
    products = [sum("linear" in str(node.target) for node in graph.graph.nodes) for graph in graphs]
    of_head = sum(isinstance(module, nn.Linear) for module in student.head.modules())
    assert of_head - 1 in products  # all but that of the condition, which is there before


def test_more_shapes_fit_than_torch_keeps_by_itself(limits) -> None:
    student, graphs = _student(LATE), []
    limits.recompile_limit = 2
    student.compile_pieces(lambda graph, _: graphs.append(graph) or graph.forward)
    for _ in range(2):
        for visible in range(5):
            _loss(student, visible)
    assert len(graphs) == 3 + 2 * 5
    assert limits.recompile_limit > 2


def test_a_copy_of_a_compiled_student_is_not_compiled(limits) -> None:
    student, graphs = _student(LATE), []
    student.compile_pieces(lambda graph, _: graphs.append(graph) or graph.forward)
    _loss(copy.deepcopy(student), 3)
    assert graphs == []


@pytest.mark.parametrize("words", [1, VECTOR - 1, VECTOR, VECTOR + 1])
def test_attention_is_a_softmax_over_the_kept_keys_whatever_their_number(words: int) -> None:
    torch.manual_seed(0)
    attention = CrossAttention(8, 2, 0.0)
    x, text = torch.randn(3, 5, 8), torch.randn(3, words, 8)
    keep = torch.arange(words) < torch.tensor([[1], [words], [(words + 1) // 2]])
    query = attention.query(x).view(3, 5, 2, 4).double()
    key, value = attention.key_value(text).view(3, words, 2, 2, 4).double().unbind(2)
    scores = torch.einsum("bqhk,bwhk->bhqw", query, key) / 2.0
    weights = torch.where(keep[:, None, None, :], scores.exp(), 0.0)
    joined = torch.einsum("bhqw,bwhk->bqhk", weights / weights.sum(-1, keepdim=True), value).flatten(2)
    torch.testing.assert_close(attention(x, attention.read(text), keep), attention.proj(joined.float()))


@pytest.mark.parametrize("words", [1, VECTOR, SHORT, SHORT + 1])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradients_are_torchs_own_for_few_keys_and_many(words: int, masked: bool) -> None:
    torch.manual_seed(0)
    keep = torch.arange(words) < torch.tensor([[1], [words], [(words + 1) // 2]]) if masked else None
    sizes = (3, 2, 5, 4), (3, 2, words, 4), (3, 2, words, 4)
    ours = [torch.randn(size, requires_grad=True) for size in sizes]
    theirs = [each.detach().double().requires_grad_() for each in ours]
    out = blocks._attend(*ours, keep, 0.0)
    mask = None if keep is None else keep[:, None, None, :]
    expected = F.scaled_dot_product_attention(*theirs, mask).transpose(1, 2).flatten(2)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    toward = torch.randn_like(out)
    out.backward(toward)
    expected.backward(toward.double())
    for our, their in zip(ours, theirs, strict=True):
        assert our.grad is not None
        assert their.grad is not None
        torch.testing.assert_close(our.grad.double(), their.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("words", [VECTOR, SHORT + 1])
def test_attention_drops_weights_in_training_for_few_keys_and_many(words: int) -> None:
    torch.manual_seed(0)
    query, key, value = torch.zeros(64, 1, 1, 4), torch.zeros(64, 1, words, 4), torch.ones(64, 1, words, 4)
    kept = blocks._attend(query, key, value, None, 0.5).flatten() / 2  # the share of equal weights that was not dropped
    assert 0.4 < float(kept.mean()) < 0.6
    assert float(kept.std()) > 0.01
    torch.testing.assert_close(blocks._attend(query, key, value, None, 0.0), torch.ones(64, 1, 4))


@pytest.mark.parametrize("autocast", [False, True])
def test_attention_on_a_cpu_is_in_float32_and_answers_in_the_type_it_was_asked_in(autocast: bool) -> None:
    torch.manual_seed(0)
    attention, asked = SelfAttention(8, 2, 0.0), torch.float32 if autocast else torch.bfloat16
    seen: list[Tensor] = []
    attention.to(asked).proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        attention(torch.randn(3, 5, 8).to(asked))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        query, key, value = blocks._heads(attention.qkv(torch.randn(3, 5, 8).to(asked)), 3, 2)
    assert {query.dtype, key.dtype, value.dtype} == {torch.float32}
    assert seen[0].dtype == torch.bfloat16


def test_the_mlp_drops_hidden_numbers_in_training_only() -> None:
    mlp, x = Mlp(16, 4.0, 0.5), torch.randn(64, 16)
    mlp.down = torch.nn.Identity()
    dropped = (mlp.train()(x) == 0).float().mean()
    assert 0.45 < float(dropped) < 0.55
    assert bool((mlp.eval()(x) != 0).all())
