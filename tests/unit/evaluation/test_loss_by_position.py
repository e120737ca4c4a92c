"""Curves: positions and probabilities land in their own row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny import network, random_stories, token_file

from stages.evaluation.calibration import Calibration
from stages.evaluation.loss_by_position import LossByPosition
from stages.evaluation.scoring import Scored, score


def scored(losses: list[list[float]], confidence: Any = 0.1, hits: Any = False, mask: Any = False) -> Scored:
    """A batch of windows by hand."""
    shape = np.array(losses).shape
    given = (np.broadcast_to(values, shape) for values in (mask, np.float32(losses), np.float32(confidence), hits))
    return Scored(*given)


def rows(table: list[dict[str, Any]]) -> list[dict[str, float]]:
    """The table's cells as numbers."""
    return [{key: float(value) for key, value in row.items()} for row in table]


def test_loss_by_position_is_the_mean_over_windows() -> None:
    """Each position's loss is averaged over all windows, those that do not score it too."""
    curve = LossByPosition(2)
    curve.add(scored([[4.0, 1.0], [2.0, 3.0]], mask=[False, True]))
    curve.add(scored([[6.0, 5.0]]))
    assert rows(curve.rows()) == [{"position": 1, "loss": 4.0, "tokens": 3}, {"position": 2, "loss": 3.0, "tokens": 3}]


def test_calibration_bins_each_scored_token_once() -> None:
    """Confidence, accuracy and their distance come from the tokens that a window scores; probability 1 has a bin too."""
    curve = Calibration()
    curve.add(scored([[0.0] * 5], [0.91, 0.93, 1.0, 0.31, 0.5], [True, False, True, False, True], [True] * 4 + [False]))
    assert rows(curve.rows()) == [
        {"confidence": 0.31, "accuracy": 0.0, "tokens": 1},
        {"confidence": 0.92, "accuracy": 0.5, "tokens": 2},
        {"confidence": 1.0, "accuracy": 1.0, "tokens": 1},
    ]
    assert curve.accuracy == 0.5
    assert curve.error == pytest.approx((0.31 + 0.84) / 4, abs=1e-6)


def test_the_curves_of_a_split_count_all_of_its_tokens() -> None:
    """The counts are those of the split, and the loss at the positions averages to the split's where windows do not overlap."""
    net, split = network(), token_file(random_stories(65))
    position, calibration = LossByPosition(16), Calibration()
    sums = score(net, split, 16, watchers=[position.add, calibration.add])
    assert sum(row["tokens"] for row in rows(calibration.rows())) == len(split)
    losses = [row["loss"] for row in rows(position.rows())]
    assert len(losses) == 16
    assert np.mean(losses) == pytest.approx(sums.nll.sum() / len(split), rel=0.02)
