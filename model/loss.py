"""The vocabulary head's loss in chunks of tokens: one chunk's logits at a time, gradients computed in the same pass.

At 50,257 tokens a batch's logits are the largest tensor by far (1,024 x 50,257 x 4 bytes = 206 MB, and as much for their
gradient); in chunks they are never in memory as a whole. A CPU takes small chunks, which stay in its cache. A GPU takes large
ones, because each costs a few kernel launches, and pads the head's matrix to a size that suits its tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORE = -100  # target that is not scored, as in torch.nn.functional.cross_entropy
Kernel = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def loss_and_gradient(logits: Tensor, targets: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """(n, W) logits, (n,) targets -> each token's -log p(target) in float32, and its gradient p - onehot. For a GPU.

    The target's column is found by comparison, not by index, because that is deterministic. Columns from `vocabulary` on are
    padding; rows whose target is -100 mean nothing.
    """
    column = torch.arange(logits.size(1), device=logits.device)
    log_p = torch.log_softmax(logits.masked_fill(column >= vocabulary, -torch.inf), dim=-1, dtype=torch.float32)  # (n, W)
    losses = -log_p.gather(1, targets.clamp_min(0)[:, None])[:, 0]
    p = log_p.exp_().sub_((column == targets[:, None]).float())  # in place: these are the largest tensors
    return losses, p.to(logits.dtype)


def loss_and_gradient_in_place(logits: Tensor, targets: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """The same for a CPU: the logits, (n, V), become the gradient, so that one matrix is all that its cache must hold.

    Of a token with a probability near 0 the loss is rough or infinite; see `HeadWay.rough_from`.
    """
    p = torch.softmax(logits, dim=-1, out=logits)  # its sums are in float32, whatever the dtype
    place = torch.arange(p.size(0)), targets.clamp_min(0)
    p_target = p[place]
    p[place] = p_target - 1.0
    return -p_target.float().log(), p


class HeadWay(NamedTuple):
    """How the loss is computed on one kind of device."""

    kernel: Kernel
    logits: int  # made at once
    multiple: int = 1  # the head's matrix is padded to so many rows or a multiple
    divide_last: bool = False  # divide the sum of gradients by `total`, not each of them: in float16 many would round to 0
    rough_from: float | None = None  # nats from which the kernel's losses are computed again, from the logits


# 256 tokens of GPT-2's vocabulary, or more of a smaller one. At 60 nats a probability is still exact; from 87 on (1e-38) it is
# not, and only a training that diverges has such tokens.
CPU = HeadWay(loss_and_gradient_in_place, 256 * 50_304, rough_from=60.0)
# tensor cores are slow at 50,257 columns; uncompiled, each operation of the kernel has a float32 result of its own
GPU = HeadWay(loss_and_gradient, 2_048 * 50_304, multiple=128, divide_last=True)
COMPILED_LOGITS = 8_192 * 50_304
LEAST_TOKENS = 16  # of a chunk


class _HeadLoss(torch.autograd.Function):
    """sum over tokens of -log softmax(hidden @ weight.T)[target] / total, with both gradients made in the forward."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, total: int | Tensor, dtype: torch.dtype, way: HeadWay
    ) -> Tensor:
        V = weight.size(0)
        h, w = hidden.to(dtype), weight.to(dtype)
        if padding := -V % way.multiple:
            w = F.pad(w, (0, 0, 0, padding))  # (W, C)
        scored = targets != IGNORE
        scale = (scored if way.divide_last else scored / total).to(dtype)[:, None]  # (N, 1): the weight of each token's loss
        size = max(LEAST_TOKENS, way.logits // w.size(0))
        loss = torch.zeros((), dtype=torch.float32, device=h.device)
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(w, dtype=torch.float32)
        for start in range(0, h.size(0), size):
            now = slice(start, start + size)
            losses, gradient = way.kernel(h[now] @ w.t(), targets[now], V)  # (n,), (n, W)
            if way.rough_from is not None and (rough := losses > way.rough_from).any():
                logits = (h[now][rough] @ w.t()).float()
                losses[rough] = F.cross_entropy(logits, targets[now][rough].clamp_min(0), reduction="none")
            loss += (losses * scored[now]).sum()
            grad_hidden[now] = (gradient @ w) * scale[now]
            scaled = h[now] * scale[now]
            if dtype == torch.float32:
                grad_weight.addmm_(gradient.t(), scaled)  # (W, C); product and sum at once save a pass over the matrix
            else:
                grad_weight.add_(gradient.t() @ scaled)
        ctx.save_for_backward(grad_hidden, grad_weight[:V].to(weight.dtype))
        ctx.divisor = total if way.divide_last else 1
        return loss / total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        factor = grad / ctx.divisor
        return grad_hidden.mul_(factor), grad_weight.mul_(factor), None, None, None, None


def head_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, total: int | Tensor | None = None, way: HeadWay | None = None
) -> Tensor:
    """Sum of -log p(target) over the scored tokens, divided by `total` (default: their number): nats per token.

    `hidden` (N, C), the head's matrix (V, C), `targets` (N,) int64, -100 = not scored. In a CUDA graph `total` is a scalar
    tensor, because the number must not be fixed. `way` None = the device's own.
    """
    if total is None:
        total = max(1, int((targets != IGNORE).sum()))
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    with torch.autocast(device, enabled=False):
        way = way or (GPU if device == "cuda" else CPU)
        return _HeadLoss.apply(hidden, weight, targets, total, dtype, way)  # type: ignore[no-untyped-call,no-any-return]
