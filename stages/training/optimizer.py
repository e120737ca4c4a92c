"""The optimizer: AdamW, or Muon on the blocks' matrices with AdamW on the rest.

Learning rate, and whether a step counts, come in scalar tensors: a CUDA graph replays the same operations at each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from stages.training.distributed import full_tensor, local_shard, shard_like

BETAS = (0.9, 0.99)  # GPT-3's 0.95 is for batches of millions of tokens; small ones need a longer average of the squares


@dataclass(frozen=True)
class Controls:
    """What a step tells its optimizers, in tensors that do not move."""

    lr: Tensor
    found_inf: Tensor  # 1.0 where loss or gradients are not finite, else 0.0: then a step changes nothing
    grad_scale: Tensor | None  # by which the optimizer divides gradients as it reads them; None = they are clipped before

    @classmethod
    def on(cls, device: torch.device, scaled: bool | None = None) -> Controls:
        """Controls for weights on this device; by default a GPU clips with `grad_scale`: it saves a pass over all gradients."""
        dtype = torch.float64 if device.type == "cpu" else torch.float32  # as PyTorch's fused kernel reads the learning rate
        scaled = device.type == "cuda" if scaled is None else scaled
        grad_scale = torch.ones((), device=device) if scaled else None
        return cls(torch.zeros((), dtype=dtype, device=device), torch.zeros((), device=device), grad_scale)

    def clip(self, gradients: list[Tensor], norm: Tensor, most: float) -> None:
        """Scale gradients of this total norm to at most `most`."""
        if self.grad_scale is None:
            torch._foreach_mul_(gradients, (most / norm.double()).clamp(max=1.0).float())
        else:
            self.grad_scale.copy_((norm / most).clamp(min=1.0))


class FusedAdamW(AdamW):
    """PyTorch's fused AdamW, whose kernel reads `found_inf` and `grad_scale` as torch.amp.GradScaler would set them."""

    def __init__(self, groups: list[dict[str, Any]], controls: Controls) -> None:
        capturable = controls.lr.device.type == "cuda"
        super().__init__(groups, lr=controls.lr, betas=BETAS, fused=True, capturable=capturable)
        self.found_inf, self.grad_scale = controls.found_inf, controls.grad_scale
        self._warned_capturable_if_run_uncaptured = True  # PyTorch need not warn: some steps on a GPU are not captured


class Muon(Optimizer):
    """Muon (Jordan et al. 2024) with Nesterov's momentum; matrices of one shape are made orthogonal as one batch.

    The update is scaled to AdamW's size (Liu et al. 2025, "Muon is scalable for LLM training"), so the learning rate means the
    same for both. The Newton-Schulz products are of `dtype`: bf16 without hardware for it takes 3.6 times as long.
    """

    MOMENTUM = 0.95
    ITERATIONS = 5
    COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration

    def __init__(self, parameters: list[Tensor], controls: Controls, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(parameters, {"lr": controls.lr, "weight_decay": weight_decay})
        self.found_inf, self.grad_scale, self.dtype = controls.found_inf, controls.grad_scale, dtype

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
            for parameters in shapes.values():
                self._move(parameters, group["lr"], group["weight_decay"])

    def _move(self, parameters: list[Tensor], lr: Tensor, weight_decay: float) -> None:
        """A step of n matrices of one shape."""
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        gradient = _stack([p.grad for p in parameters if p.grad is not None])  # (n, R, C)
        if self.grad_scale is not None:
            gradient.div_(self.grad_scale)
        momentum, weights = _stack(buffers), _stack(parameters)
        moved = momentum.lerp(gradient, 1 - self.MOMENTUM)
        direction = self._orthogonal(gradient.lerp_(moved, self.MOMENTUM))
        step_size = 0.2 * lr * math.sqrt(max(parameters[0].shape))
        after = torch.addcmul(weights * (1 - lr * weight_decay), direction, -step_size.float())
        skipped = self.found_inf != 0
        _unstack(torch.where(skipped, momentum, moved), buffers)
        _unstack(torch.where(skipped, weights, after), parameters)

    def _orthogonal(self, m: Tensor) -> Tensor:
        """(n, R, C) -> about U V^T of each matrix's singular value decomposition, by Newton-Schulz."""
        a, b, c = self.COEFFICIENTS
        tall = m.size(1) > m.size(2)
        x = m.transpose(1, 2) if tall else m  # the products of rows with rows are the smaller matrices
        x = (x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)).to(self.dtype)
        for _ in range(self.ITERATIONS):
            gram = x @ x.transpose(1, 2)
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)  # aX + b(XX^T)X + c(XX^T)^2 X
        return (x.transpose(1, 2) if tall else x).float()


def _stack(tensors: list[Tensor]) -> Tensor:
    return torch.stack([full_tensor(tensor) for tensor in tensors])


def _unstack(values: Tensor, places: list[Tensor]) -> None:
    shards = [shard_like(value, place) for value, place in zip(values.unbind(), places, strict=True)]
    torch._foreach_copy_(list(map(local_shard, places)), list(map(local_shard, shards)))


def parameter_groups(net: nn.Module, weight_decay: float, others: set[Tensor]) -> list[dict[str, Any]]:
    """AdamW's groups: weight decay on matrices and token embeddings, none on biases, LayerNorm and positions.

    The parameters in `others` have another optimizer.
    """
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, p in net.named_parameters():
        if p.requires_grad and p not in others:
            (decayed if p.dim() >= 2 and not name.endswith("wpe.weight") else plain).append(p)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def make_optimizers(
    net: nn.Module, name: str, weight_decay: float, controls: Controls, dtype: torch.dtype = torch.float32
) -> list[Optimizer]:
    """AdamW alone (`adamw`), or AdamW and Muon (`muon`), whose products are of `dtype`."""
    if name == "adamw":
        return [FusedAdamW(parameter_groups(net, weight_decay, set()), controls)]
    matrices: list[Tensor] = [p for key, p in net.named_parameters() if p.requires_grad and p.dim() == 2 and ".h." in f".{key}"]
    rest = FusedAdamW(parameter_groups(net, weight_decay, set(matrices)), controls)
    return [rest, Muon(matrices, controls, weight_decay, dtype)]
