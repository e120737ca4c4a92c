"""Loss by position in the context: what a single number hides."""

from __future__ import annotations

import numpy as np

from stages.evaluation.scoring import Scored


class LossByPosition:
    """Mean loss of the first, second, ... target of a window: how much the network gains from context.

    All targets of every window count, so that each token (except at the split's ends) is seen at block_size / stride positions
    and the positions are compared on nearly the same tokens.
    """

    def __init__(self, context: int) -> None:
        self._nats = np.zeros(context)
        self._tokens = 0

    def add(self, scored: Scored) -> None:
        """Take in a batch of windows."""
        self._nats += scored.losses.sum(axis=0, dtype=np.float64)
        self._tokens += len(scored.losses)

    def rows(self) -> list[dict[str, object]]:
        """position (tokens of context), loss (nats per token), tokens."""
        losses = self._nats / max(1, self._tokens)
        return [
            {"position": position, "loss": f"{loss:.6f}", "tokens": self._tokens}
            for position, loss in enumerate(losses, start=1)
        ]
