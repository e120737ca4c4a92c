"""The vocabulary head's loss in chunks of tokens: logits of one chunk at a time, gradients made in the same pass.

At 50,257 tokens the logits of one batch are the largest tensor by far (1,024 x 50,257 x 4 bytes = 206 MB, and as much
again for their gradient). Made chunk by chunk they are never kept, and in bf16 they stay in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORE = -100  # target that is not scored, as in torch.nn.functional.cross_entropy
CHUNK = 256 * 50_304  # logits made at once: of 256 tokens of GPT-2's vocabulary, or of more tokens of a smaller one


def _chunk(weight: Tensor) -> int:
    """Tokens of one chunk."""
    return max(16, CHUNK // weight.size(0))


class _HeadLoss(torch.autograd.Function):
    """sum over tokens of -log softmax(hidden @ weight.T)[target] / total, with both gradients made in the forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, total: int, dtype: torch.dtype) -> Tensor:
        scored = targets != IGNORE
        rows, h, w = targets.clamp_min(0), hidden.to(dtype), weight.to(dtype)
        scale = (scored / total).to(dtype)[:, None]  # (N, 1): what each token's loss counts
        size = _chunk(weight)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(h)
        grad_weight = torch.zeros_like(w, dtype=torch.float32)
        for start in range(0, h.size(0), size):
            now = slice(start, start + size)
            logits = h[now] @ w.t()  # (n, V)
            p = torch.softmax(logits, dim=-1, out=logits)  # in their place; sums in float32 inside, whatever the dtype
            at = torch.arange(p.size(0), device=p.device)
            p_target = p[at, rows[now]]
            loss -= (p_target.float().clamp_min(1e-38).log() * scored[now]).sum()
            p[at, rows[now]] = p_target - 1.0  # d loss / d logits = p - onehot
            torch.mul(p @ w, scale[now], out=grad_hidden[now])
            scaled = h[now] * scale[now]
            if dtype == torch.float32:
                grad_weight.addmm_(p.t(), scaled)  # (V, C); adds as it multiplies: the matrix is not read and written once more
            else:
                grad_weight.add_(p.t() @ scaled)
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight.to(weight.dtype))
        return loss / total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden.mul_(grad), grad_weight.mul_(grad), None, None, None


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype that autocast asks for, or the hidden state's own."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def head_loss(hidden: Tensor, weight: Tensor, targets: Tensor, total: int | None = None) -> Tensor:
    """Sum of -log p(target) over the scored tokens, divided by `total` (default: their number).

    Args:
        hidden: (N, C).
        weight: (V, C), the head's matrix.
        targets: (N,) int64; -100 = not scored.
        total: what to divide by.

    Returns:
        a scalar, nats per token.
    """
    if total is None:
        total = max(1, int((targets != IGNORE).sum()))
    dtype = _compute_dtype(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        return _HeadLoss.apply(hidden, weight, targets, total, dtype)  # type: ignore[no-untyped-call,no-any-return]


@torch.no_grad()
def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """-log p(target) of each token, (N,) float32 nats; 0 where the target is -100."""
    dtype = _compute_dtype(hidden)
    parts = []
    with torch.autocast(hidden.device.type, enabled=False):
        w = weight.to(dtype)
        size = _chunk(weight)
        h = hidden.to(dtype)
        for start in range(0, h.size(0), size):
            y = targets[start : start + size]
            logits = (h[start : start + size] @ w.t()).float()  # (n, V)
            picked = logits.gather(1, y.clamp_min(0)[:, None])[:, 0]
            parts.append((logits.logsumexp(dim=-1) - picked) * (y != IGNORE))
    return torch.cat(parts)
