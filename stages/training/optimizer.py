"""The optimizer: AdamW, or Muon on the blocks' matrices with AdamW on the rest."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

BETAS = (0.9, 0.99)  # GPT-3's 0.95 is for batches of millions of tokens; over small ones the squares need more steps


class Float32Muon(torch.optim.Muon):
    """PyTorch's Muon, with Nesterov's momentum and AdamW's step size, in the weights' own dtype.

    PyTorch's makes the Newton-Schulz products in bf16 on any hardware; where a processor cannot multiply that, they take
    3.6 times as long as in float32, and most of a training step.
    """

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                momentum = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
                direction = _orthogonal(p.grad.lerp(momentum, group["momentum"]), group)
                rate = 0.2 * group["lr"] * math.sqrt(max(p.shape))  # adjust_lr_fn="match_rms_adamw"
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-rate)


def _orthogonal(m: Tensor, group: dict[str, Any]) -> Tensor:
    """(R, C) -> about U V^T of its singular value decomposition, by Newton-Schulz (Jordan et al. 2024)."""
    a, b, c = group["ns_coefficients"]
    tall = m.size(0) > m.size(1)
    x = m.T if tall else m  # the products of rows with rows are the smaller matrix
    x = x / x.norm().clamp_min(group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # aX + b(XX^T)X + c(XX^T)^2 X
    return x.T if tall else x


def make_optimizers(
    net: nn.Module, name: str, learning_rate: float, weight_decay: float, precision: str = "fp32"
) -> list[Optimizer]:
    """One optimizer, or two for muon; weight decay on matrices and token embeddings only (no biases, LayerNorm, positions).

    Muon (Jordan et al. 2024) takes AdamW's learning rate: its update is scaled to AdamW's size (Liu et al. 2025, "Muon is
    scalable for LLM training"), so `learning_rate` means the same for both. Its products are made in `precision` (`bf16`
    or `fp32`).
    """
    trained = [(key, p) for key, p in net.named_parameters() if p.requires_grad]
    muon = [p for key, p in trained if name == "muon" and p.dim() == 2 and ".h." in f".{key}"]
    chosen = {id(p) for p in muon}
    decayed = {id(p) for key, p in trained if p.dim() >= 2 and not key.endswith("wpe.weight")}
    rest = [p for _, p in trained if id(p) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in rest if id(p) not in decayed], "weight_decay": 0.0},
    ]
    optimizers: list[Optimizer] = [
        AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=BETAS, weight_decay=weight_decay, fused=True)
    ]
    if muon:
        kind = torch.optim.Muon if precision == "bf16" else Float32Muon
        optimizers.append(kind(muon, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    return optimizers


def set_learning_rate(optimizers: list[Optimizer], rate: float) -> None:
    """Give every group this rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
