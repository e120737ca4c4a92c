"""The optimizers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny import network
from torch import Tensor
from torch.optim import Optimizer

from model.config import Position
from stages.training.optimizer import BETAS, Controls, FusedAdamW, Muon, make_optimizers

SHAPES = ((24, 24), (72, 24), (24, 96), (24, 24))


@pytest.fixture
def controls() -> Controls:
    """A learning rate of 0.1, and steps that count."""
    made = Controls.on(torch.device("cpu"))
    made.lr.fill_(0.1)
    return made


def moved(make: Callable[[list[Tensor]], Optimizer], dtype: torch.dtype = torch.float32) -> Tensor:
    """Where three steps of an optimizer bring some matrices, as one float64 vector."""
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in SHAPES]
    optimizer = make(matrices)
    for _ in range(3):
        for p in matrices:
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype)
        optimizer.step()
    return torch.cat([p.detach().double().flatten() for p in matrices])


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_weight_decay_is_for_matrices_only(name: str, position: Position, controls: Controls) -> None:
    """Biases, LayerNorm and positions have no weight decay; every trained parameter is in exactly one group."""
    net = network(noise=0, position=position)
    groups = [group for optimizer in make_optimizers(net, name, 0.1, controls) for group in optimizer.param_groups]
    members = [p for group in groups for p in group["params"]]
    assert len(members) == len({id(p) for p in members})
    assert {id(p) for p in members} == {id(p) for p in net.parameters() if p.requires_grad}
    for group in groups:
        decayed = group["weight_decay"] > 0
        assert all((p.dim() >= 2 and p is not net.wpe.weight) == decayed for p in group["params"])


def test_muon_takes_the_blocks_matrices(controls: Controls) -> None:
    """With muon, embeddings and vectors stay with AdamW; one learning rate serves both."""
    net = network(noise=0)
    adamw, muon = make_optimizers(net, "muon", 0.1, controls)
    matrices = {id(p) for name, p in net.named_parameters() if name.startswith("h.") and p.dim() == 2}
    assert {id(p) for group in muon.param_groups for p in group["params"]} == matrices
    assert {id(group["lr"]) for optimizer in (adamw, muon) for group in optimizer.param_groups} == {id(controls.lr)}


def test_adamw_with_a_learning_rate_in_a_tensor_is_pytorchs(controls: Controls) -> None:
    """On a CPU the learning rate's tensor gives the steps that a number gives, to the bit."""
    ours = moved(lambda matrices: FusedAdamW([{"params": matrices, "weight_decay": 0.1}], controls))
    assert torch.equal(
        ours, moved(lambda matrices: torch.optim.AdamW(matrices, lr=0.1, betas=BETAS, weight_decay=0.1, fused=True))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_is_pytorchs(dtype: torch.dtype, controls: Controls) -> None:
    """Matrices of one shape made orthogonal as one batch move as PyTorch's Muon moves each, whose products are in bf16."""
    theirs = moved(lambda matrices: torch.optim.Muon(matrices, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"))
    ours = moved(lambda matrices: Muon(matrices, controls, 0.1, dtype))
    assert (ours - theirs).norm() < 2e-2 * theirs.norm()


def test_muon_multiplies_in_the_precision_of_the_run(controls: Controls) -> None:
    """With products in float32 Muon is nearer to the exact step, of float64, than with products in fp16 or bf16."""
    exact = moved(lambda matrices: Muon(matrices, controls, 0.1, torch.float64))
    errors = [
        float((moved(lambda matrices, dtype=dtype: Muon(matrices, controls, 0.1, dtype)) - exact).norm() / exact.norm())
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    ]
    assert errors[0] < 1e-5 < errors[1] < errors[2] < 2e-2


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("norm", [0.5, 4.0])
def test_clipping_inside_the_step_is_clipping_before_it(name: str, norm: float) -> None:
    """With `grad_scale`, as on a GPU, the optimizers move the weights as clipped gradients move them, to rounding."""
    weights = []
    for scaled in (False, True):
        controls = Controls.on(torch.device("cpu"), scaled)
        controls.lr.fill_(0.1)
        net = network(noise=0, position="learned")
        optimizers = make_optimizers(net, name, 0.1, controls)
        for _ in range(2):
            generator = torch.Generator().manual_seed(1)
            for p in net.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
            gradients = [p.grad for p in net.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, norm / float(torch.nn.utils.get_total_norm(gradients)))
            controls.clip(gradients, torch.nn.utils.get_total_norm(gradients), 1.0)
            assert (controls.grad_scale is not None) is scaled
            for optimizer in optimizers:
                optimizer.step()
        moments = [state[key] for o in optimizers for state in o.state.values() for key in state if "exp_avg" in key]
        weights.append([*net.parameters(), *moments])
    for before, inside in zip(*weights, strict=True):
        torch.testing.assert_close(before, inside, atol=1e-6, rtol=1e-4)
