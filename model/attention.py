"""Multi-head scaled dot-product attention, by hand on a CPU: products, mask, softmax, and their gradients.

Autograd would keep the unmasked scores, the mask's result and copies of every view. Long sequences are cut into blocks of
queries, so that the half of the score matrix which the causal mask would throw away is never computed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

QUERY_BLOCK = 64  # queries worked on at once
NARROW = 16  # head size below which a product has few columns, see _empty
BY_HAND_UP_TO = 1024  # tokens; longer sequences take PyTorch's attention, whose memory can grow with T instead of T^2
FLASH = 8  # major compute capability from which a GPU has the flash kernel, the one that can give the same bits each time


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = True, dropout: float = 0.0, mask: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(hs) + mask) v (Vaswani et al. 2017, equation 1), (B, H, T, hs) each.

    `causal`: a token sees itself and the tokens before it only; `dropout`: share of the attention weights dropped. With a cache
    k and v have more columns than q has tokens, and its `mask` (T, columns) takes the place of both.
    """
    if mask is not None and (q.is_cuda or q.size(2) > 1):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    if mask is not None:  # for one query on a CPU, small products take a third of the time of PyTorch's kernel
        one, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)  # (N, 1, hs), (N, columns, hs)
        p = torch.baddbmm(mask, one, k.transpose(1, 2), alpha=1.0 / math.sqrt(q.size(3))).softmax(-1)
        return torch.bmm(p, v).view(q.shape)
    # an exported loop over blocks would keep the example's length, see below
    exported = torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    half = q.is_cuda and q.dtype != torch.float32  # on a GPU without the flash kernel, these types are faster by hand
    if exported or q.size(2) > BY_HAND_UP_TO or (has_flash(q.device) if half else q.is_cuda):
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
    return AttentionByHand.apply(q, k, v, causal, dropout)  # type: ignore[no-untyped-call,no-any-return]


def has_flash(device: torch.device) -> bool:
    """Whether this is a GPU with the flash kernel. (torch.compile takes the device's properties as constants.)"""
    return device.type == "cuda" and torch.cuda.get_device_properties(device).major >= FLASH


def attention_probabilities(q: Tensor, k: Tensor, causal: bool) -> Tensor:
    """softmax(q k' / sqrt(hs) + mask), (B, H, T, hs) each -> (B, H, T, T): what query i gives to key j. The definition.

    `attention` has the same weights, but not all of them in memory at once.
    """
    scores = q @ k.transpose(2, 3) / math.sqrt(q.size(3))
    if causal:
        scores = scores + torch.full(scores.shape[2:], -torch.inf, device=scores.device).triu(1)
    return scores.softmax(-1)


class AttentionByHand(torch.autograd.Function):
    """For each block of queries: s = q k' / sqrt(hs) + mask, p = softmax(s), o = p v. N = B * H below."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, causal: bool, dropout: float) -> Tensor:
        B, H, T, hs = q.shape
        q, k, v = q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1)  # (N, T, hs)
        q = q * (scale := 1.0 / math.sqrt(q.size(2)))
        o = _empty(q)
        kept = any(ctx.needs_input_grad)  # without gradients nothing is kept: each block's weights reuse the last one's memory
        mask = q.new_full((QUERY_BLOCK, QUERY_BLOCK), -torch.inf).triu_(1)  # -inf = in the future
        saved = []
        for start in range(0, T, QUERY_BLOCK):
            end = min(start + QUERY_BLOCK, T)
            seen = end if causal else T
            s = torch.bmm(q[:, start:end], k[:, :seen].transpose(1, 2))  # (N, block, seen)
            if causal:  # only a block's own columns hold future tokens
                s[:, :, start:].add_(mask[: end - start, : end - start])
            p = torch.softmax(s, dim=-1, out=s)
            saved += [p] if kept else []
            if dropout:
                keep = torch.empty_like(p).bernoulli_(1.0 - dropout).div_(1.0 - dropout)
                saved += [keep] if kept else []
                p = p * keep
            _product(p, v[:, :seen], out=o[:, start:end])
        ctx.save_for_backward(q, k, v, *saved)
        ctx.dropout, ctx.scale = dropout, scale
        return o.view(B, H, T, hs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        T = q.size(1)
        do = grad.reshape(q.shape)
        dq, dk, dv = _empty(q), _empty(q, across=True), _empty(q, across=True)
        for index, start in reversed(list(enumerate(range(0, T, QUERY_BLOCK)))):  # the last block sees all keys: it sets dk, dv
            end = min(start + QUERY_BLOCK, T)
            do_block, q_block = do[:, start:end], q[:, start:end]
            p = saved[2 * index if ctx.dropout else index]  # (N, block, seen)
            keep = saved[2 * index + 1] if ctx.dropout else None
            seen = p.size(2)
            add = end < T
            _product((p if keep is None else p * keep).transpose(1, 2), do_block, dv[:, :seen], add)
            dp = torch.bmm(do_block, v[:, :seen].transpose(1, 2))
            if keep is not None:
                dp.mul_(keep)
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype, grad_input=dp)  # p * (dp - sum(p * dp)), in one pass
            _product(ds, k[:, :seen], dq[:, start:end])
            _product(ds.transpose(1, 2), q_block, dk[:, :seen], add)
        dq.mul_(ctx.scale)
        return dq.view(grad.shape), dk.view(grad.shape), dv.view(grad.shape), None, None


def _empty(like: Tensor, across: bool = False) -> Tensor:
    """Memory for (N, T, hs) results p x, or p' x (`across`). Below NARROW columns bmm is slow: their transpose is computed and
    stored instead, in float32 only where the wide matrix p is then still read row by row."""
    N, T, hs = like.shape
    transposed = hs < NARROW and (across or like.dtype != torch.float32)
    return like.new_empty(N, hs, T).transpose(1, 2) if transposed else like.new_empty(N, T, hs)


def _product(a: Tensor, b: Tensor, out: Tensor, add: bool = False) -> None:
    """out = a b, or out += a b, as out' = b' a' if `out` is stored transposed: (N, rows, inner), (N, inner, hs)."""
    if out.stride(2) != 1:
        a, b, out = b.transpose(1, 2), a.transpose(1, 2), out.transpose(1, 2)
    if out.dtype == torch.float32:  # with a part of a tensor as `out`, bmm multiplies float32 matrices one by one
        product = torch.bmm(a, b)
        out.add_(product) if add else out.copy_(product)
    elif add:
        out.baddbmm_(a, b)
    else:
        torch.bmm(a, b, out=out)
