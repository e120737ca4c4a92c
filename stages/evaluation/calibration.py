"""Calibration: predicted probability against accuracy."""

from __future__ import annotations

import numpy as np

from stages.evaluation.scoring import Scored

BINS = 20  # of probability, equally wide


class Calibration:
    """Of the tokens where the network gave its favorite a probability of about p, in how many was it right?"""

    def __init__(self) -> None:
        self._tokens, self._confidence, self._hits = np.zeros(BINS), np.zeros(BINS), np.zeros(BINS)

    def add(self, scored: Scored) -> None:
        """Take in a batch of windows; each token counts once."""
        confidence = scored.confidence[scored.mask].astype(np.float64)
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        self._tokens += np.bincount(bins, minlength=BINS)
        self._confidence += np.bincount(bins, confidence, minlength=BINS)
        self._hits += np.bincount(bins, scored.hits[scored.mask], minlength=BINS)

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017): the mean gap between confidence and accuracy, 0 to 1."""
        return float(np.abs(self._confidence - self._hits).sum() / max(1, self._tokens.sum()))

    @property
    def accuracy(self) -> float:
        """Share of tokens whose likeliest prediction is right."""
        return float(self._hits.sum() / max(1, self._tokens.sum()))

    def rows(self) -> list[dict[str, object]]:
        """confidence (mean of the bin), accuracy, tokens; bins without tokens are left out."""
        return [
            {"confidence": f"{confidence / tokens:.6f}", "accuracy": f"{hits / tokens:.6f}", "tokens": f"{tokens:.0f}"}
            for confidence, hits, tokens in zip(self._confidence, self._hits, self._tokens, strict=True)
            if tokens
        ]
