"""The network's shape: frozen, checked, and able to say its number of parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Position = Literal["sinusoidal", "learned"]


@dataclass(frozen=True)
class GPT2Config:
    """Everything that decides the network's shape and maths.

    Raises:
        ValueError: all that is wrong, in one message.
    """

    vocab_size: int
    block_size: int = 1024  # context, tokens
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    position: Position = "learned"
    causal: bool = True  # False: no mask, so a token sees those after it; it exists only to explain the old report
    tie_embeddings: bool = True  # the head shares wte's weights

    def __post_init__(self) -> None:
        wrong = [
            f"{key} must be 1 or more, it is {getattr(self, key)}"
            for key in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
            if getattr(self, key) < 1
        ]
        if not wrong and self.n_embd % self.n_head:
            wrong.append(f"n_head ({self.n_head}) must divide n_embd ({self.n_embd})")
        if not 0.0 <= self.dropout < 1.0:
            wrong.append(f"dropout must be from 0 to below 1, it is {self.dropout}")
        if self.position not in ("sinusoidal", "learned"):
            wrong.append(f"position must be sinusoidal or learned, it is {self.position}")
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def parameters(self) -> int:
        """Trained numbers. GPT-2 small (learned positions, 1,024 context, 50,257 tokens, tied) has 124,439,808."""
        c = self.n_embd
        block = 12 * c * c + 13 * c  # ln_1 2c, c_attn 3cc+3c, c_proj cc+c, ln_2 2c, c_fc 4cc+4c, c_proj 4cc+c
        embeddings = self.vocab_size * c * (1 if self.tie_embeddings else 2)
        positions = self.block_size * c if self.position == "learned" else 0
        return embeddings + positions + self.n_layer * block + 2 * c

    def flops_per_token(self, context: int) -> int:
        """Multiplications and additions to train on one token, with `context` before it (Kaplan et al. 2020, 2.1)."""
        matrices = 12 * self.n_embd**2 * self.n_layer + self.vocab_size * self.n_embd
        return 6 * matrices + 6 * self.n_layer * self.n_embd * context
