"""Curves: what a single number hides. Loss by position in the context; predicted probability against accuracy."""

from __future__ import annotations

import numpy as np

from stages.lib.perplexity import Scored

BINS = 20  # of probability, equally wide


class LossByPosition:
    """Mean loss of the first, second, ... target of a window: how much the network gains from context.

    All targets of every window count, so that each token (but for the split's ends) is seen at block_size / stride positions
    and the positions are compared on nearly the same tokens.
    """

    def __init__(self, context: int) -> None:
        self._nats = np.zeros(context)
        self._tokens = 0

    def add(self, scored: Scored) -> None:
        """Take in a batch of windows."""
        self._nats += scored.losses.sum(axis=0, dtype=np.float64)
        self._tokens += len(scored.losses)

    def csv(self) -> str:
        """position (tokens of context), loss (nats/token), tokens."""
        losses = self._nats / max(1, self._tokens)
        rows = [f"{position},{loss:.6f},{self._tokens}" for position, loss in enumerate(losses, start=1)]
        return "\n".join(["position,loss,tokens", *rows, ""])


class Calibration:
    """Of the tokens where the network gave its favourite a probability of about p, in how many was it right?"""

    def __init__(self) -> None:
        self._tokens, self._confidence, self._hits = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)

    def add(self, scored: Scored) -> None:
        """Take in a batch of windows; each token counts once."""
        confidence = scored.confidence[scored.scores].astype(np.float64)
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        self._tokens += np.bincount(bins, minlength=BINS)
        self._confidence += np.bincount(bins, confidence, minlength=BINS)
        self._hits += np.bincount(bins, scored.hits[scored.scores], minlength=BINS)

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017): the mean gap between confidence and accuracy, 0 to 1."""
        return float(np.abs(self._confidence - self._hits).sum() / max(1, self._tokens.sum()))

    @property
    def accuracy(self) -> float:
        """Share of tokens whose likeliest prediction is right."""
        return float(self._hits.sum() / max(1, self._tokens.sum()))

    def csv(self) -> str:
        """confidence (mean of the bin), accuracy, tokens; bins without tokens are left out."""
        rows = [
            f"{confidence / tokens:.6f},{hits / tokens:.6f},{tokens:.0f}"
            for confidence, hits, tokens in zip(self._confidence, self._hits, self._tokens, strict=True)
            if tokens
        ]
        return "\n".join(["confidence,accuracy,tokens", *rows, ""])
