"""The network for generation: packed weights, the keys and values of the tokens seen so far, plain tensor operations.

The same function as `GPT2.hidden` (a test compares them), for a few sequences that grow by one token. On a CPU such a step is
bound by the cost of starting each operation. So there are no modules and no autograd here, the results and views that each step
needs are made once, the residual stream is updated in place, and matrices are stored as (in, out): faster for few rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.gpt2 import GPT2, Block

# The cache is read in columns of this number, the unseen ones masked: PyTorch multiplies a row with fewer than 50 columns of 8
# entries in a plain loop, which takes up to five times as long as MKL takes for 64, and views for one width serve 64 steps.
COLUMNS = 64
Norm = tuple[Tensor, Tensor]  # weight (C,), bias (C,)
Linear = tuple[Tensor, Tensor]  # bias (out,), weight (in, out)


class Layer(NamedTuple):
    """One block's weights."""

    ln_1: Norm
    c_attn: Linear
    attn_c_proj: Linear
    ln_2: Norm
    c_fc: Linear
    mlp_c_proj: Linear


class Decoder:
    """`decoder(tokens)` takes the next (B, T) tokens and returns the last one's hidden state (B, C), ready for the head.

    Call it within torch.inference_mode().

    Args:
        net: the network; a later change of its weights has no effect.
        batch: B, sequences.
    """

    def __init__(self, net: GPT2, batch: int) -> None:
        self.config = c = net.config
        self.wte, self.wpe, self.ln_f = net.wte.weight, net.positions(), _norm(net.ln_f)
        self.layers = [_packed_layer(block) for block in net.h]  # type: ignore[arg-type]
        rows = batch * c.n_head
        # zeros, because what is masked is multiplied too; keys as k', so that q k' reads them row by row
        self.keys = self.wte.new_zeros(c.n_layer, rows, c.head_size, c.block_size)
        self.values = self.wte.new_zeros(c.n_layer, rows, c.block_size, c.head_size)
        self.read: tuple[tuple[Tensor, ...], tuple[Tensor, ...]] = ((), ())  # each layer's first `width` keys and values
        self.width = 0
        self.mask = torch.cat([self.wte.new_zeros(c.block_size), self.wte.new_full((c.block_size,), -math.inf)])
        self.qkv, self.wide, self.y = (self.wte.new_empty(batch, n * c.n_embd) for n in (3, 4, 1))  # one token's results
        self.length = 0  # positions seen

    @property
    def room(self) -> int:
        """Tokens that still fit the context."""
        return self.config.block_size - self.length

    def forget(self) -> None:
        """Start again with an empty context."""
        self.length = 0

    def __call__(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 -> (B, C). T > 1 only with an empty context; T <= `room`."""
        B, T = tokens.shape
        past, end = self.length, self.length + T
        assert T == 1 or past == 0, "several tokens at once only at the start"
        assert end <= self.config.block_size, "the context is full"
        x = F.embedding(tokens, self.wte).add_(self.wpe[past:end]).view(B * T, -1)
        if T == 1:
            x = through(self.layers, x, self._next(B, end), self.qkv, self.wide)
        else:
            x = through(self.layers, x, self._first(B, T))
        self.length = end
        return normalise(x.view(B, T, -1)[:, -1], self.ln_f)

    def _next(self, B: int, end: int) -> Callable[[int, Tensor], Tensor]:
        """Attention of one more token of each sequence to all that have been seen, `end` with itself."""
        H, hs, context = self.config.n_head, self.config.head_size, self.config.block_size
        width = min(-(-end // COLUMNS) * COLUMNS, context)
        if width != self.width:
            self.width, self.read = width, (self.keys[..., :width].unbind(0), self.values[..., :width, :].unbind(0))
        seen_k, seen_v = self.read  # of each layer (N, hs, width) and (N, width, hs), N = B * H
        new_k = self.keys.view(-1, B, H, hs, context)[..., end - 1].unbind(0)  # of each layer (B, H, hs)
        new_v = self.values.view(-1, B, H, context, hs)[..., end - 1, :].unbind(0)
        mask = self.mask[context - end : context - end + width]  # 0 for the first `end`, -inf for the others
        q, k, v = self.qkv.view(B, 3, H, hs).unbind(1)  # (B, H, hs) each
        one, y = (B * H, 1, hs), self.y.view(B * H, 1, hs)

        def attend(layer: int, qkv: Tensor) -> Tensor:  # qkv is self.qkv; a fused kernel takes two to four times as long
            new_k[layer].copy_(k)
            new_v[layer].copy_(v)
            scores = torch.baddbmm(mask, q.reshape(one), seen_k[layer])  # (N, 1, width)
            torch.bmm(torch.softmax(scores, -1), seen_v[layer], out=y)
            return self.y

        return attend

    def _first(self, B: int, T: int) -> Callable[[int, Tensor], Tensor]:
        """Attention among the T tokens that a context begins with."""
        C, H, hs = self.config.n_embd, self.config.n_head, self.config.head_size

        def attend(layer: int, qkv: Tensor) -> Tensor:
            q, k, v = qkv.view(B, T, 3, H, hs).permute(2, 0, 3, 1, 4)  # (B, H, T, hs) each
            self.keys[layer, ..., :T].view(B, H, hs, T).copy_(k.transpose(2, 3))
            self.values[layer, :, :T].view(B, H, T, hs).copy_(v)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=self.config.causal, scale=1.0)
            return y.transpose(1, 2).reshape(B * T, C)

        return attend


def through(
    layers: list[Layer],
    x: Tensor,
    attend: Callable[[int, Tensor], Tensor],
    qkv: Tensor | None = None,
    wide: Tensor | None = None,
) -> Tensor:
    """(N, C) through all blocks, in place. `attend(layer, qkv)` keeps the keys and values (N, 3C) and returns (N, C).

    `qkv` (N, 3C) and `wide` (N, 4C) are filled with each layer's results, if they are given, instead of new tensors.
    """
    width, layer_norm, addmm, gelu = (x.size(1),), torch.layer_norm, torch.addmm, F.gelu
    for index, ((w1, b1), (b2, w2), (b3, w3), (w4, b4), (b5, w5), (b6, w6)) in enumerate(layers):  # in the order of `Layer`
        y = attend(index, addmm(b2, layer_norm(x, width, w1, b1), w2, out=qkv))
        x.add_(b3).addmm_(y, w3)
        y = gelu(addmm(b5, layer_norm(x, width, w4, b4), w5, out=wide), approximate="tanh")  # (N, 4C)
        x.add_(b6).addmm_(y, w6)
    return x


def normalise(x: Tensor, norm: Norm) -> Tensor:
    """LayerNorm of each row."""
    return torch.layer_norm(x, (x.size(-1),), *norm)


def _packed_layer(block: Block) -> Layer:
    """Copies of the weights. The queries' are divided by sqrt(head size), so that attention need not do it at each step."""
    attn, mlp = block.attn, block.mlp
    bias, weight = _packed(attn.c_attn)
    scale = torch.ones_like(bias)
    scale[: len(bias) // 3] = 1.0 / math.sqrt(len(bias) // 3 // attn.n_head)
    return Layer(
        *(_norm(block.ln_1), (bias * scale, weight * scale), _packed(attn.c_proj)),
        *(_norm(block.ln_2), _packed(mlp.c_fc), _packed(mlp.c_proj)),
    )


def _norm(module: nn.LayerNorm) -> Norm:
    return module.weight, module.bias


def _packed(module: nn.Linear) -> Linear:
    return module.bias, module.weight.t().contiguous()
