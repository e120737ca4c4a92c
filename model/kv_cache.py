"""The keys and values of the tokens seen so far, so that a new token costs one row instead of the whole text again.

The buffers never move, and the CPU needs no value in them: a step that uses them can be recorded as a CUDA graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import GPT2Config

# Below 50 columns PyTorch multiplies a row in a plain loop of its own, up to five times slower than MKL takes for 64.
COLUMNS = 64


class KVCache:
    """Keys and values of each block for a batch of texts; `net(tokens, cache)` adds those of its tokens.

    Attributes:
        position: (1,) int64, of the next token; fill it with 0 to begin again.
        at: positions of the newest T tokens, (T,).
        mask: what is added to their scores, (T, columns): 0 where a key is visible, -inf where it is not.
    """

    def __init__(self, config: GPT2Config, batch: int, like: Tensor) -> None:
        assert config.causal, "without a mask each new token changes all keys"
        shape = (2, config.n_layer, batch, config.n_head, config.block_size, config.head_size)
        self._buffer = like.new_zeros(shape)  # not empty, because what is masked is multiplied too
        self._layers = list(zip(*self._buffer, strict=True))  # keys and values of each, (B, H, block_size, hs)
        self._columns = torch.arange(config.block_size, device=like.device)
        self.position = torch.zeros(1, dtype=torch.int64, device=like.device)
        self.read(config.block_size)

    def read(self, tokens: int) -> None:
        """From now on attend to the first `tokens` positions only, rounded up to COLUMNS."""
        self._width = min(-(-tokens // COLUMNS) * COLUMNS, len(self._columns))
        self._seen = list(zip(*self._buffer[..., : self._width, :], strict=True))

    def advance(self, tokens: int) -> Tensor:
        """Make room for T more tokens of each text; their positions, (T,)."""
        self.at = self.position + self._columns[:tokens]
        future = self._columns[: self._width] > self.at[:, None]  # (T, columns)
        self.mask = self._buffer.new_zeros(future.shape).masked_fill_(future, -torch.inf)
        self.position.add_(tokens)
        return self.at

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' (B, H, T, hs) keys and values; return all of this layer's, (B, H, columns, hs) each."""
        keys, values = self._layers[layer]
        keys.index_copy_(2, self.at, k)
        values.index_copy_(2, self.at, v)
        return self._seen[layer]
