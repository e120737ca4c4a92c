"""GPT-2 (Radford et al. 2019), written out: embeddings, pre-norm blocks of causal attention and MLP, a head.

Names are GPT-2's own (wte wpe h ln_1 attn ln_2 mlp ln_f). Shapes in comments: B sequences, T tokens of each,
C width (n_embd), H heads of size hs (C = H * hs), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import attention
from model.config import GPT2Config
from model.kv_cache import KVCache
from model.loss import COMPILED_LOGITS, GPU, HeadWay, head_loss

INITIAL_STD, INITIAL_WIDTH = 0.02, 768  # of GPT-2 small's first weights, and its width
POSITION_SCALE = 0.1  # of the sinusoidal table, see GPT2.positions
RACE = range(2_017, 3_073)  # tokens of a micro-batch, see `embed`


def sinusoidal_positions(block_size: int, n_embd: int) -> Tensor:
    """The fixed position table of Vaswani et al. 2017, section 3.5, (block_size, n_embd).

    PE[pos, 2i] = sin(pos / 10000^(2i / n_embd)), PE[pos, 2i + 1] = cos(the same angle).
    """
    position = torch.arange(block_size, dtype=torch.float64)[:, None]  # (T, 1)
    even = torch.arange(0, n_embd, 2, dtype=torch.float64)  # 2i
    angle = position / 10_000.0 ** (even / n_embd)  # (T, ceil(C/2)); float64: float32 angles are off by 1e-5 at T = 1,000
    table = torch.empty(block_size, n_embd, dtype=torch.float64)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()[:, : n_embd // 2]
    return table.float()


def embed(tokens: Tensor, weight: Tensor, padded: bool) -> Tensor:
    """The rows of `weight` for (B, T) tokens, (B, T, C).

    `padded`: for some numbers of tokens PyTorch 2.13's gradient on a GPU has a race. Then tokens are added whose gradients are
    0, so that its other kernel is used, which sorts them.
    """
    if not padded or not RACE[0] <= tokens.numel() <= RACE[-1]:
        return F.embedding(tokens, weight)
    more = F.pad(tokens.flatten(), (0, RACE[-1] + 1 - tokens.numel()))
    return F.embedding(more, weight)[: tokens.numel()].view(*tokens.shape, -1)


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention: each token looks back at itself and the tokens before it."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.n_head, self.causal, self.dropout, self.layer = config.n_head, config.causal, config.dropout, layer
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # query, key, value in one product
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, C) -> queries, keys, values, each (B, H, T, hs), as attention uses them and the cache keeps them."""
        q, k, v = self.c_attn(x).unflatten(2, (3, self.n_head, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        q, k, v = self.heads(x)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)
        mask = None if cache is None else cache.mask
        y = attention(q, k, v, self.causal, self.dropout if self.training else 0.0, mask)
        return F.dropout(self.c_proj(y.transpose(1, 2).flatten(2)), self.dropout, self.training)  # (B, T, C)


class MLP(nn.Module):
    """Two layers with GPT-2's GELU (the tanh form) between them, applied to each token alone."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.c_fc(x), approximate="tanh")  # (B, T, 4C)
        return F.dropout(self.c_proj(x), self.dropout, self.training)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): the residual stream is never normalized itself (pre-norm)."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache)
        return cast(Tensor, x + self.mlp(self.ln_2(x)))


class GPT2(nn.Module):
    """The language model: token ids in, logits of each next token out."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.wte.weight
        self.compiled = False
        self._head_way: HeadWay | None = None  # of the loss; None = the device's own
        if not self.wte.weight.is_meta:  # on the meta device there are no values: `hf.load` brings them
            self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """GPT-2's initialization: normal(0, std); projections into the residual stream smaller by sqrt(2 n_layer).

        std is GPT-2's 0.02 at its width of 768, and grows as 1 / sqrt(C) below it, so that a product with a normalized vector
        begins at the same size at every width (LeCun et al. 1998, "Efficient BackProp", section 4.6).
        """
        std = INITIAL_STD * math.sqrt(INITIAL_WIDTH / self.config.n_embd)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=std / math.sqrt(2 * self.config.n_layer) if residual else std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if self.config.position == "sinusoidal":
            self.wpe.weight.copy_(sinusoidal_positions(self.config.block_size, self.config.n_embd) * POSITION_SCALE)
            self.wpe.weight.requires_grad_(False)

    def compile_parts(self) -> None:
        """Let torch.compile make kernels for the blocks, which share them, and for the head's loss.

        The whole network at once would take several times as long to compile for a few per cent more speed.
        """
        for block in cast("list[Block]", self.h):
            block.compile(dynamic=False)
        if self.wte.weight.is_cuda:
            self._head_way = GPU._replace(kernel=torch.compile(GPU.kernel, dynamic=False), logits=COMPILED_LOGITS)
        self.compiled = True

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Within it compiled parts run uncompiled, for shapes that are too rare to be worth compiling.

        The head's loss then takes smaller chunks, because an uncompiled kernel keeps the result of each of its operations.
        """
        way, self._head_way = self._head_way, None
        try:
            with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
                yield
        finally:
            self._head_way = way

    def positions(self, at: slice | Tensor = slice(None)) -> Tensor:
        """What is added to the token embeddings at these positions, (T, C); by default at all of them.

        The sinusoidal table is scaled. In its paper the embeddings it is added to are multiplied by sqrt(C), to its own size of
        about 1; GPT-2's begin at 0.02 and grow to about 0.2, so the unscaled table would drown the tokens.
        """
        return self.wpe.weight[at]

    def hidden(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """(B, T) token ids -> (B, T, C), normalized, ready for the head. With a cache they follow the tokens that are in it."""
        T = tokens.size(1)
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens do not fit the context of {self.config.block_size} (block_size)")
        x = embed(tokens, self.wte.weight, tokens.is_cuda) + self.positions(
            slice(T) if cache is None else cache.advance(T)
        )  # (B, T, C)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.h:
            x = block(x, cache)
        return cast(Tensor, self.ln_f(x))

    def forward(self, tokens: Tensor, cache: KVCache | None = None, last: bool = False) -> Tensor:
        """(B, T) int64 -> logits (B, T, V); position t predicts token t + 1. `cache` as in `hidden`.

        `last`: only the last position's logits, (B, V), from which the next token is drawn.
        """
        hidden = self.hidden(tokens, cache)
        if not last:
            return cast(Tensor, self.lm_head(hidden))
        hidden = hidden[:, -1]
        if hidden.is_cuda:
            return cast(Tensor, self.lm_head(hidden))
        columns = hidden.repeat(1 + (len(hidden) == 1), 1).t()  # (C, B), at least two
        return (self.lm_head.weight @ columns).t()[: len(hidden)]  # for a few texts, half the time of hidden @ weight'

    def loss(self, tokens: Tensor, targets: Tensor, total: int | Tensor | None = None) -> Tensor:
        """Mean nats per token of (B, T) tokens and targets: cross_entropy(net(tokens), targets) without holding all logits.

        Targets of -100 are not scored. `total`: divide by it instead of by the tokens scored here, a part of a larger batch.
        """
        hidden = self.hidden(tokens).flatten(0, 1)
        return head_loss(hidden, self.lm_head.weight, targets.flatten(), total, self._head_way)
