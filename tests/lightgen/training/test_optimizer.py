"""Which optimizer takes which weights, at what rate, and steps that are not taken."""

import numpy as np
import pytest
import torch

from lightgen.model.student import Student
from lightgen.training.muon import Muon
from lightgen.training.optimizer import OptimizerConfig, learning_rate, make_optimizers, step_if


def test_learning_rate_warms_up_in_steps_and_decays() -> None:
    config = OptimizerConfig(lr=2.0, warmup_steps=4, decay="cosine", decay_from=0.5, final_lr=0.1)
    rates = [learning_rate(config, step, 20) for step in range(20)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[9] == 2.0
    assert rates[15] == pytest.approx(2 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * 0.5))))
    assert 0.2 < rates[19] < 0.3
    assert learning_rate(OptimizerConfig(lr=1.0), 10**6, 10) == 1.0


def test_weight_decay_spares_biases_norms_and_the_head(fresh: Student) -> None:
    (optimizer,) = make_optimizers(fresh, OptimizerConfig())
    decayed = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02, 0.0]
    for name, parameter in fresh.named_parameters():
        assert (id(parameter) in decayed) == (parameter.ndim >= 2 and not name.startswith("head."))


def test_the_rate_of_dpo_moves_float32_weights_and_would_not_move_bfloat16_ones(fresh: Student) -> None:
    for kind, moves in ((torch.float32, True), (torch.bfloat16, False)):
        weight = torch.full((5,), 0.03, dtype=kind, requires_grad=True)
        optimizer = torch.optim.AdamW([weight], lr=1e-8, weight_decay=0.0)
        for _ in range(3):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        assert bool((weight.detach() != torch.tensor(0.03, dtype=kind)).all()) is moves
    with pytest.raises(AssertionError, match="weights are kept in float32"):
        make_optimizers(fresh.bfloat16(), OptimizerConfig(lr=1e-8))


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest(fresh: Student) -> None:
    muon, adamw = make_optimizers(fresh, OptimizerConfig(kind="muon"))
    names = {id(parameter): name for name, parameter in fresh.named_parameters()}
    taken = {names[id(parameter)] for group in muon.param_groups for parameter in group["params"]}
    left = {names[id(parameter)] for group in adamw.param_groups for parameter in group["params"]}
    assert taken | left == set(names.values())
    assert not taken & left
    assert "decoder.0.mlp.up.weight" in taken
    assert "head.blocks.0.first.weight" in taken
    for name in ("token_in.weight", "mask_token", "head.blocks.0.modulation.weight", "encoder_positions.table"):
        assert name in left


def test_muon_decays_no_head_and_knows_which_weights_hold_several_matrices(fresh: Student) -> None:
    muon, _ = make_optimizers(fresh, OptimizerConfig(kind="muon", weight_decay=0.1))
    names = {id(parameter): name for name, parameter in fresh.named_parameters()}
    for group in muon.param_groups:
        for name in (names[id(parameter)] for parameter in group["params"]):
            assert group["weight_decay"] == (0.0 if name.startswith("head.") else 0.1), name
            assert group["parts"] == {"qkv": 3, "key_value": 2}.get(name.split(".")[-2], 1), name


@pytest.mark.parametrize("make", [lambda p: torch.optim.AdamW(p, lr=0.1, fused=True), lambda p: Muon(p, lr=0.1)])
def test_gradients_are_divided_as_clipping_does_and_an_unusable_step_changes_nothing(make) -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(4, 6) for _ in range(3)]
    clipped, divided = (torch.nn.Parameter(torch.ones(4, 6)) for _ in range(2))
    one, other = make([clipped]), make([divided])
    for gradient in gradients:
        clipped.grad, divided.grad = gradient.clone(), gradient.clone()
        torch.nn.utils.clip_grad_norm_([clipped], 0.5)
        one.step()
        step_if(torch.tensor(True), [other], divisor=(gradient.norm() / 0.5).clamp(min=1))
        torch.testing.assert_close(divided, clipped)
    kept = {name: value.clone() for name, value in other.state[divided].items()}
    divided.grad = torch.full((4, 6), torch.nan)
    before = divided.detach().clone()
    step_if(torch.tensor(False), [other], divisor=torch.tensor(torch.nan))
    assert torch.equal(divided.detach(), before)
    assert all(torch.equal(other.state[divided][name], value) for name, value in kept.items())
    step_if(torch.tensor(True), [other], divisor=torch.tensor(1.0))
    assert not bool(divided.detach().isfinite().any()), "the null control"
