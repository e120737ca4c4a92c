"""Multi-head scaled dot-product attention, by hand: products, mask, softmax, and their gradients.

Autograd would do the same maths, but it keeps the unmasked scores, the mask's result and copies of every view. Long sequences
are cut into blocks of queries, so that the half of the score matrix which the causal mask would throw away is never computed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

QUERY_BLOCK = 64  # queries worked on at once
NARROW = 16  # below this head size a product has few columns and can be faster as its transpose, see _empty
BY_HAND_UP_TO = 1024  # tokens; longer sequences take PyTorch's attention, whose memory can grow with T instead of T^2
FLASH = (8, 0)  # compute capability from which a GPU has the flash kernel, the one that can give the same bits each time


def split_heads(qkv: Tensor, n_head: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, 3C) -> queries, keys, values, each (B, H, T, hs)."""
    B, T, C3 = qkv.shape
    q, k, v = qkv.view(B, T, 3, n_head, C3 // (3 * n_head)).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def merge_heads(y: Tensor) -> Tensor:
    """(B, H, T, hs) -> (B, T, C): the heads side by side again."""
    B, H, T, hs = y.shape
    return y.transpose(1, 2).reshape(B, T, H * hs)


def self_attention(qkv: Tensor, n_head: int, *, causal: bool, dropout: float = 0.0, flash: bool | None = None) -> Tensor:
    """softmax(q k' / sqrt(hs)) v within each sequence (Vaswani et al. 2017, equation 1): (B, T, 3C) -> (B, T, C).

    Args:
        qkv: query, key and value of every token side by side.
        n_head: heads H; C = H * hs.
        causal: a token sees itself and the tokens before it only.
        dropout: share of the attention weights dropped.
        flash: what `has_flash` says of the device; None = ask it, which compiled code cannot.
    """
    half = qkv.is_cuda and qkv.dtype != torch.float32  # on a GPU without the flash kernel, these types are faster by hand
    by_hand = not (has_flash(qkv.device) if flash is None else flash) if half else not qkv.is_cuda
    if not by_hand or qkv.size(1) > BY_HAND_UP_TO:
        q, k, v = split_heads(qkv, n_head)
        return merge_heads(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal))
    return _SelfAttention.apply(qkv, n_head, causal, dropout)  # type: ignore[no-untyped-call,no-any-return]


def has_flash(device: torch.device) -> bool:
    """Whether this is a GPU with the flash kernel."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= FLASH


class _SelfAttention(torch.autograd.Function):
    """For each block of queries: s = q k' / sqrt(hs) + mask, p = softmax(s), o = p v. N = B * H below."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, n_head: int, causal: bool, dropout: float) -> Tensor:
        B, T, _ = qkv.shape
        q, k, v = (part.flatten(0, 1) for part in split_heads(qkv, n_head))  # (N, T, hs)
        q = q * (scale := 1.0 / math.sqrt(q.size(2)))
        o = _empty(q)
        kept = ctx.needs_input_grad[0]  # without gradients nothing is kept: each block's weights reuse the last one's memory
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
        ctx.shape, ctx.dropout, ctx.scale = (B, n_head), dropout, scale
        return merge_heads(o.view(B, n_head, T, -1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        B, H = ctx.shape
        N, T, hs = q.shape
        do = grad.reshape(B, T, H, hs).transpose(1, 2).reshape(N, T, hs)
        dq, dk, dv = _empty(q), _empty(q, across=True), _empty(q, across=True)
        blocks = list(range(0, T, QUERY_BLOCK))
        for index, start in reversed(list(enumerate(blocks))):  # the last block sees all keys: it sets dk and dv
            end = min(start + QUERY_BLOCK, T)
            do_block, q_block = do[:, start:end], q[:, start:end]
            p = saved[2 * index if ctx.dropout else index]  # (N, block, seen)
            keep = saved[2 * index + 1] if ctx.dropout else None
            seen = p.size(2)
            add = index < len(blocks) - 1
            _product((p if keep is None else p * keep).transpose(1, 2), do_block, dv[:, :seen], add)
            dp = torch.bmm(do_block, v[:, :seen].transpose(1, 2))
            if keep is not None:
                dp.mul_(keep)
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype, grad_input=dp)  # p * (dp - sum(p * dp)), in one pass
            _product(ds, k[:, :seen], dq[:, start:end])
            _product(ds.transpose(1, 2), q_block, dk[:, :seen], add)
        dq.mul_(ctx.scale)
        dqkv = torch.stack([part.view(B, H, T, hs).transpose(1, 2) for part in (dq, dk, dv)], dim=2)  # (B, T, 3, H, hs)
        return dqkv.view(B, T, 3 * H * hs), None, None, None


def _empty(like: Tensor, across: bool = False) -> Tensor:
    """(N, T, hs) for a result p x of `_product`, or p' x (`across`), in the memory order that is faster to compute.

    A matrix product with few columns is slow, so for small heads the transpose is computed instead: x' p' or x' p. In float32
    this pays only if the wide matrix p is still read row by row.
    """
    N, T, hs = like.shape
    transposed = hs < NARROW and (across or like.dtype != torch.float32)
    return like.new_empty(N, hs, T).transpose(1, 2) if transposed else like.new_empty(N, T, hs)


def _product(a: Tensor, b: Tensor, out: Tensor, add: bool = False) -> None:
    """out = a b, or out += a b; computed as out' = b' a' if `out` is stored transposed.

    Shapes (N, rows, inner), (N, inner, hs), (N, rows, hs).
    """
    if out.stride(2) != 1:
        a, b, out = b.transpose(1, 2), a.transpose(1, 2), out.transpose(1, 2)
    if out.dtype == torch.float32:  # straight into part of a tensor, bmm would compute a float32 product matrix by matrix
        product = torch.bmm(a, b)
        out.add_(product) if add else out.copy_(product)
    elif add:
        out.baddbmm_(a, b)
    else:
        torch.bmm(a, b, out=out)
