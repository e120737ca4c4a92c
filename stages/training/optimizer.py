"""The optimizer: AdamW, or Muon on the blocks' matrices with AdamW on the rest.

Both have two forms. The plain one takes the learning rate as a number, and the CPU decides whether to take a step. The static
one has the rate in a tensor on the device and skips its step where the tensor `found_inf` is not 0, which PyTorch's fused AdamW
does too: a CUDA graph needs the same operations at each step.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

BETAS = (0.9, 0.99)  # GPT-3's 0.95 is for batches of millions of tokens; small ones need a longer average of the squares


class Float32Muon(torch.optim.Muon):
    """PyTorch's Muon, with Nesterov's momentum and AdamW's step size, in the weights' own dtype.

    PyTorch's own computes the Newton-Schulz products in bf16 on any hardware. On a processor without bf16 they take 3.6 times
    as long as in float32, and most of a training step.
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


class StaticMuon(torch.optim.Muon):
    """Muon in its static form: the matrices of one shape are stacked and made orthogonal as one batch.

    Attributes:
        dtype: of the Newton-Schulz products.
        found_inf: a scalar tensor; where it is not 0, a step changes nothing.
    """

    dtype: torch.dtype
    found_inf: Tensor

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
                    if not self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p.grad)
            for same in shapes.values():
                self._move(same, group)

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """A step of n matrices of one shape."""
        skipped = self.found_inf != 0
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        gradient = torch.stack([p.grad for p in parameters if p.grad is not None])  # (n, R, C)
        momentum, weights = torch.stack(buffers), torch.stack(parameters)
        moved = momentum.lerp(gradient, 1 - group["momentum"])
        direction = self._orthogonal(gradient.lerp_(moved, group["momentum"]), group)
        rate = 0.2 * group["lr"] * math.sqrt(max(parameters[0].shape))  # adjust_lr_fn="match_rms_adamw"
        after = weights * (1 - group["lr"] * group["weight_decay"]) - direction * rate
        torch._foreach_copy_(buffers, torch.where(skipped, momentum, moved).unbind())
        torch._foreach_copy_(parameters, torch.where(skipped, weights, after).unbind())

    def _orthogonal(self, m: Tensor, group: dict[str, Any]) -> Tensor:
        """`_orthogonal` of each matrix of a stack, (n, R, C)."""
        a, b, c = group["ns_coefficients"]
        tall = m.size(1) > m.size(2)
        x = m.transpose(1, 2) if tall else m
        x = (x / x.norm(dim=(1, 2), keepdim=True).clamp_min(group["eps"])).to(self.dtype)
        for _ in range(group["ns_steps"]):
            gram = x @ x.transpose(1, 2)
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return (x.transpose(1, 2) if tall else x).float()


def make_optimizers(
    net: nn.Module, name: str, learning_rate: float, weight_decay: float, precision: str = "fp32", static: bool = False
) -> list[Optimizer]:
    """One optimizer, or two for muon; weight decay on matrices and token embeddings only (no biases, LayerNorm, positions).

    Muon (Jordan et al. 2024) takes AdamW's learning rate: its update is scaled to AdamW's size (Liu et al. 2025, "Muon is
    scalable for LLM training"), so `learning_rate` means the same for both. Its products are made in `precision` (`bf16`,
    `fp16` or `fp32`). `static` chooses the form that a CUDA graph needs.
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
    device = trained[0][1].device
    rate: float | Tensor = learning_rate
    if static:  # the fused kernel reads a float32 on a GPU, and the number itself on a CPU
        rate = torch.tensor(learning_rate, device=device, dtype=torch.float64 if device.type == "cpu" else torch.float32)
    capturable = static and device.type == "cuda"
    adamw: dict[str, Any] = {"betas": BETAS, "weight_decay": weight_decay, "fused": True, "capturable": capturable}
    optimizers: list[Optimizer] = [AdamW([g for g in groups if g["params"]], lr=rate, **adamw)]
    if muon:
        options: dict[str, Any] = {"lr": rate, "weight_decay": weight_decay, "adjust_lr_fn": "match_rms_adamw"}
        if static:
            stacked = StaticMuon(muon, **options)
            stacked.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
            stacked.found_inf = torch.zeros((), device=device)
            optimizers.append(stacked)
        else:
            optimizers.append((torch.optim.Muon if precision == "bf16" else Float32Muon)(muon, **options))
    return optimizers


def set_learning_rate(optimizers: list[Optimizer], rate: float) -> None:
    """Give every group this rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
