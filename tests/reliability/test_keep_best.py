"""`keep: best`: the weights of the lowest validation loss are part of the checkpoint, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from step_pair import StopAfter, finished, same, state, trainer

from stages.training.trainer import Stopped

pytestmark = pytest.mark.usefixtures("one_thread")
# random tokens: after the first evaluations the network only learns them by heart
OVERFITTING: dict[str, Any] = {"keep": "best", "epochs": 4, "learning_rate": 0.03, "eval_every": 3}


def weights_at(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """The weights of the same training after this step."""
    with pytest.raises(Stopped):
        finished(folder, stop=StopAfter(step - 1), **OVERFITTING)
    stopped = trainer(folder, **OVERFITTING)
    stopped.checkpoints.restore(stopped.net, stopped.step_parts.optimizers)
    return {name: p.detach().clone() for name, p in stopped.net.named_parameters()}


def test_the_best_weights_are_those_of_their_step(tmp_path: Path) -> None:
    """What is kept are the weights after the step with the lowest of all validation losses, neither the first nor the last."""
    made = finished(tmp_path / "all", **OVERFITTING)
    best = made.history.best
    assert best["val_loss"] == min(row["val_loss"] for row in made.history.validation)
    assert made.history.validation[0]["step"] <= best["step"] < made.step
    same(weights_at(tmp_path / "part", int(best["step"])), made.best)


@pytest.mark.parametrize("kind", ["eager", "captured"])
@pytest.mark.parametrize("at", [2, 7, 20])  # before the first evaluation, near the best one, long behind it
def test_resumed_is_uninterrupted(tmp_path: Path, at: int, kind: str) -> None:
    """Stopped after any step and continued: the same best weights as the uninterrupted training's, at zero tolerance."""
    straight = finished(tmp_path / "straight", kind, **OVERFITTING)
    with pytest.raises(Stopped):
        finished(tmp_path / "broken", kind, stop=StopAfter(at), **OVERFITTING)
    resumed = finished(tmp_path / "broken", kind, **OVERFITTING)
    assert resumed.resumed > 0 and straight.best
    same(state(straight), state(resumed))


def test_the_last_weights_need_no_copy(tmp_path: Path) -> None:
    """With `keep: last` nothing is kept beside the network, in memory or in checkpoints."""
    assert not finished(tmp_path, epochs=1).best
