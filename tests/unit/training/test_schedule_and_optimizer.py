"""The schedule and the optimizers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model import GPT2, GPT2Config
from model.config import Position
from stages.training.optimizer import Float32Muon, make_optimizers, set_learning_rate
from stages.training.schedule import learning_rate


@given(
    steps=st.integers(1, 3000),
    peak=st.floats(1e-6, 10),
    share=st.floats(0, 1),
    warmup=st.integers(0, 4000),
    place=st.floats(0, 1),
)
def test_rate_stays_within_bounds(steps: int, peak: float, share: float, warmup: int, place: float) -> None:
    """At any step the rate is above 0 while warming up, never above the peak, never below the minimum after warm-up."""
    minimum = peak * share
    step = min(steps - 1, int(place * steps))
    rate = learning_rate(step, steps, peak, minimum, warmup)
    assert 0.0 <= rate <= peak * (1 + 1e-12)
    if step >= (warmup if warmup < steps else steps // 2):
        assert rate >= minimum * (1 - 1e-12)
    else:
        assert rate > 0.0


def test_rate_rises_then_falls_to_the_minimum() -> None:
    """Linear warm-up to the peak, cosine to exactly the minimum at the last step."""
    rates = [learning_rate(step, 100, 1.0, 0.1, 10) for step in range(100)]
    assert rates[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("position", ["sinusoidal", "learned"])
def test_weight_decay_is_for_matrices_only(position: Position) -> None:
    """Biases, LayerNorm and positions have no weight decay; every trained parameter is in exactly one group."""
    net = GPT2(GPT2Config(50, block_size=8, n_layer=2, n_head=2, n_embd=8, position=position))
    for name in ("adamw", "muon"):
        optimizers = make_optimizers(net, name, 1e-3, 0.1)
        members = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        assert len(members) == len({id(p) for p in members})
        assert {id(p) for p in members} == {id(p) for p in net.parameters() if p.requires_grad}
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                decayed = group["weight_decay"] > 0
                assert all((p.dim() >= 2 and p is not net.wpe.weight) == decayed for p in group["params"])


def test_muon_takes_the_blocks_matrices() -> None:
    """With muon, embeddings and vectors stay with AdamW; one rate is set for all."""
    net = GPT2(GPT2Config(50, block_size=8, n_layer=2, n_head=2, n_embd=8))
    adamw, muon = make_optimizers(net, "muon", 1e-3, 0.1)
    matrices = {id(p) for name, p in net.named_parameters() if name.startswith("h.") and p.dim() == 2}
    assert {id(p) for group in muon.param_groups for p in group["params"]} == matrices
    set_learning_rate([adamw, muon], 0.5)
    assert {group["lr"] for optimizer in (adamw, muon) for group in optimizer.param_groups} == {0.5}


def test_muon_in_float32_is_pytorchs() -> None:
    """In fp32 Muon takes PyTorch's steps, nearer to float64's than PyTorch's bf16, and keeps the same state."""

    def weights(kind: type[torch.optim.Muon], dtype: torch.dtype) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        matrices = [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in ((24, 24), (72, 24), (24, 96))]
        optimizer = kind(matrices, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for _ in range(3):
            for p in matrices:
                p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype)
            optimizer.step()
        assert [list(state) for state in optimizer.state_dict()["state"].values()] == [["momentum_buffer"]] * 3
        return torch.cat([p.detach().double().flatten() for p in matrices])

    exact = weights(Float32Muon, torch.float64)
    assert (weights(Float32Muon, torch.float32) - exact).norm() < 1e-5 * exact.norm()
    assert (weights(torch.optim.Muon, torch.float32) - exact).norm() < 2e-2 * exact.norm()


@pytest.mark.parametrize(("precision", "kind"), [("fp32", Float32Muon), ("bf16", torch.optim.Muon)])
def test_muon_multiplies_in_the_precision_of_the_run(precision: str, kind: type) -> None:
    """In a bf16 run Muon's products are in bf16, in an fp32 run in float32."""
    net = GPT2(GPT2Config(50, block_size=8, n_layer=1, n_head=2, n_embd=8))
    assert type(make_optimizers(net, "muon", 1e-3, 0.1, precision)[1]) is kind


@pytest.mark.parametrize(("precision", "near"), [("fp32", 1e-5), ("bf16", 2e-2), ("fp16", 5e-3)])
def test_stacked_muon_is_muon(precision: str, near: float) -> None:
    """Matrices of one shape made orthogonal as one batch move as each would alone; a skipped step moves nothing."""
    nets = []
    for static in (False, True):
        torch.manual_seed(0)
        net = GPT2(GPT2Config(50, block_size=8, n_layer=3, n_head=2, n_embd=24))
        _, muon = make_optimizers(net, "muon", 0.1, 0.1, precision if static else "fp32", static=static)
        muon.found_inf = torch.zeros(())  # type: ignore[attr-defined]
        for step in range(3):
            torch.manual_seed(step)
            for p in net.parameters():
                p.grad = torch.randn_like(p)
            muon.step()
        nets.append((net, muon))
    (plain, _), (stacked, muon) = nets
    for one, other in zip(plain.parameters(), stacked.parameters(), strict=True):
        assert (one - other).norm() <= near * one.norm()
    before = [p.detach().clone() for p in stacked.parameters()]
    muon.found_inf.fill_(1.0)  # type: ignore[attr-defined]
    for p in stacked.parameters():
        p.grad = torch.full_like(p, torch.nan)
    muon.step()
    assert all(torch.equal(one, other) for one, other in zip(before, stacked.parameters(), strict=True))
    assert all(state["momentum_buffer"].isfinite().all() for state in muon.state.values())
