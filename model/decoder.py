"""The network for generation: packed weights, the keys and values of what it has seen, plain tensor operations.

The same function as `GPT2.hidden` (a test compares them), made for a few sequences that grow by one token. A step then is
bound by the cost of starting each operation, so there are no modules and no autograd here, the residual stream is added to in
place, and a matrix lies as (in, out), which is the faster way round for few rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.gpt2 import GPT2, Block

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

    To be called in torch.inference_mode().

    Args:
        net: the network; later changes of its weights do not show.
        batch: B, sequences.
    """

    def __init__(self, net: GPT2, batch: int) -> None:
        self.config = c = net.config
        self.wte, self.wpe, self.ln_f = net.wte.weight, net.positions(), _norm(net.ln_f)
        self.layers = [_layer(block) for block in net.h]  # type: ignore[arg-type]
        self.seen = self.wte.new_zeros(c.n_layer, batch, 2, c.n_head, c.block_size, c.head_size)  # 2: keys and values
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
        C, H, hs = self.config.n_embd, self.config.n_head, self.config.head_size
        past, end = self.length, self.length + T
        assert T == 1 or past == 0, "several tokens at once only at the start"
        assert end <= self.config.block_size, "the context is full"
        x = F.embedding(tokens, self.wte).add_(self.wpe[past:end]).view(B * T, C)
        new, seen = self.seen[..., past:end, :].unbind(0), self.seen[..., :end, :].unbind(0)  # of each layer
        for layer, new_kv, kv in zip(self.layers, new, seen, strict=True):
            qkv = _linear(_normalise(x, layer.ln_1), layer.c_attn)  # (B T, 3C)
            qkv = qkv.view(B, T, 3, H, hs).permute(0, 2, 3, 1, 4)  # (B, 3, H, T, hs)
            new_kv.copy_(qkv[:, 1:])
            k, v = kv.unbind(1)  # each (B, H, past + T, hs)
            y = F.scaled_dot_product_attention(qkv[:, 0], k, v, is_causal=self.config.causal and T > 1)
            _add_linear(x, y.transpose(1, 2).reshape(B * T, C), layer.attn_c_proj)
            y = F.gelu(_linear(_normalise(x, layer.ln_2), layer.c_fc), approximate="tanh")  # (B T, 4C)
            _add_linear(x, y, layer.mlp_c_proj)
        self.length = end
        return _normalise(x.view(B, T, C)[:, -1], self.ln_f)


def _normalise(x: Tensor, norm: Norm) -> Tensor:
    return torch.layer_norm(x, (x.size(-1),), *norm)


def _linear(x: Tensor, linear: Linear) -> Tensor:
    bias, weight = linear
    return torch.addmm(bias, x, weight)


def _add_linear(x: Tensor, y: Tensor, linear: Linear) -> None:
    """x += y @ weight + bias."""
    bias, weight = linear
    x.add_(bias).addmm_(y, weight)


def _layer(block: Block) -> Layer:
    attn, mlp = block.attn, block.mlp
    return Layer(
        *(_norm(block.ln_1), _packed(attn.c_attn), _packed(attn.c_proj)),
        *(_norm(block.ln_2), _packed(mlp.c_fc), _packed(mlp.c_proj)),
    )


def _norm(module: nn.LayerNorm) -> Norm:
    return module.weight, module.bias


def _packed(module: nn.Linear) -> Linear:
    return module.bias, module.weight.t().contiguous()
