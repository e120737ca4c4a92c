"""The vocabulary head's loss in chunks of tokens: one chunk's logits at a time, gradients computed in the same pass.

At 50,257 tokens the logits of one batch are the largest tensor by far (1,024 x 50,257 x 4 bytes = 206 MB, and as much
again for their gradient). Computed in chunks, they are never in memory as a whole. A CPU takes small chunks, whose logits stay
in its cache. A GPU takes large ones, because each chunk costs a few kernel launches, and pads the head's matrix to a size that
suits its tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

IGNORE = -100  # target that is not scored, as in torch.nn.functional.cross_entropy
CHUNK = 256 * 50_304  # logits made at once: of 256 tokens of GPT-2's vocabulary, or of more tokens of a smaller one
CHUNK_GPU = 8_192 * 50_304  # the same on a GPU
CHUNK_GPU_PLAIN = 2_048 * 50_304  # uncompiled, where each operation of `loss_and_gradient` has a float32 result of its own
ROWS = 128  # the head's matrix is padded to a multiple of it: tensor cores are slow at 50,257 columns


def _chunk(weight: Tensor) -> int:
    """Tokens of one chunk."""
    return max(16, CHUNK // weight.size(0))


class _HeadLoss(torch.autograd.Function):
    """sum over tokens of -log softmax(hidden @ weight.T)[target] / total, with both gradients made in the forward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, total: int | Tensor, dtype: torch.dtype) -> Tensor:
        scored = targets != IGNORE
        rows, h, w = targets.clamp_min(0), hidden.to(dtype), weight.to(dtype)
        scale = (scored / total).to(dtype)[:, None]  # (N, 1): the weight of each token's loss
        size = _chunk(weight)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(h)
        grad_weight = torch.zeros_like(w, dtype=torch.float32)
        for start in range(0, h.size(0), size):
            now = slice(start, start + size)
            logits = h[now] @ w.t()  # (n, V)
            p = torch.softmax(logits, dim=-1, out=logits)  # overwrites the logits; its sums are in float32, whatever the dtype
            at = torch.arange(p.size(0), device=p.device)
            p_target = p[at, rows[now]]
            loss -= (p_target.float().clamp_min(1e-38).log() * scored[now]).sum()
            p[at, rows[now]] = p_target - 1.0  # d loss / d logits = p - onehot
            torch.mul(p @ w, scale[now], out=grad_hidden[now])
            scaled = h[now] * scale[now]
            if dtype == torch.float32:
                grad_weight.addmm_(p.t(), scaled)  # (V, C); product and sum at once save a pass over the matrix
            else:
                grad_weight.add_(p.t() @ scaled)
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight.to(weight.dtype))
        return loss / total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden.mul_(grad), grad_weight.mul_(grad), None, None, None


Kernel = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def loss_and_gradient(logits: Tensor, targets: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Each token's -log p(target) in float32, and the gradient of their sum, p - onehot, in the dtype of the logits.

    torch.compile makes one kernel of it. The target's column is found by comparison, not by index, because that is
    deterministic.

    Args:
        logits: (n, W), of which the columns from `vocabulary` on are padding.
        targets: (n,); where it is -100, loss and gradient are 0.
        vocabulary: V, at most W.
    """
    column = torch.arange(logits.size(1), device=logits.device)
    log_p = torch.log_softmax(logits.masked_fill(column >= vocabulary, -torch.inf), dim=-1, dtype=torch.float32)  # (n, W)
    scored = targets != IGNORE
    losses = -log_p.gather(1, targets.clamp_min(0)[:, None])[:, 0] * scored
    p = log_p.exp_().sub_((column == targets[:, None]).float()).mul_(scored[:, None])  # in place: these are the largest tensors
    return losses, p.to(logits.dtype)


class _PaddedHeadLoss(torch.autograd.Function):
    """The same as `_HeadLoss`, for a GPU.

    Gradients are summed before they are divided by `total`: multiplied by 1 / total first, many would round to 0 in float16.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, total: int | Tensor, dtype: torch.dtype, kernel: Kernel
    ) -> Tensor:
        V, C = weight.shape
        w = torch.empty(-(-V // ROWS) * ROWS, C, dtype=dtype, device=weight.device)  # (W, C)
        w[:V] = weight
        w[V:] = 0.0
        h = hidden.to(dtype)
        size = max(ROWS, (CHUNK_GPU_PLAIN if kernel is loss_and_gradient else CHUNK_GPU) // w.size(0))
        sums, grad_hidden, grad_weight = [], torch.empty_like(hidden), torch.zeros((), device=w.device)
        for start in range(0, h.size(0), size):
            now = slice(start, start + size)
            losses, gradient = kernel(h[now] @ w.t(), targets[now], V)  # (n,), (n, W)
            sums.append(losses.sum())
            grad_hidden[now] = gradient @ w
            product = gradient.t() @ h[now]  # (W, C)
            grad_weight = grad_weight.add_(product) if start else product.float()
        ctx.save_for_backward(grad_hidden, grad_weight[:V])
        ctx.total, ctx.dtype = total, weight.dtype
        return torch.stack(sums).sum() / total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        factor = grad / ctx.total
        return grad_hidden.mul_(factor), grad_weight.mul_(factor).to(ctx.dtype), None, None, None, None


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype that autocast asks for, or the hidden state's own."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def head_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, total: int | Tensor | None = None, kernel: Kernel = loss_and_gradient
) -> Tensor:
    """Sum of -log p(target) over the scored tokens, divided by `total` (default: their number).

    Args:
        hidden: (N, C).
        weight: (V, C), the head's matrix.
        targets: (N,) int64; -100 = not scored.
        total: what to divide by; a scalar tensor where the number must not be fixed, as in a CUDA graph.
        kernel: `loss_and_gradient`, compiled or not; used on a GPU only.

    Returns:
        a scalar, nats per token.
    """
    if total is None:
        total = max(1, int((targets != IGNORE).sum()))
    dtype = _compute_dtype(hidden)
    with torch.autocast(hidden.device.type, enabled=False):
        if hidden.device.type == "cuda":
            return _PaddedHeadLoss.apply(hidden, weight, targets, total, dtype, kernel)  # type: ignore[no-untyped-call,no-any-return]
        return _HeadLoss.apply(hidden, weight, targets, total, dtype)  # type: ignore[no-untyped-call,no-any-return]
