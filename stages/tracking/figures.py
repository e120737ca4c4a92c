"""Figures: the loss as a picture, for the runs' pages in MLflow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stages.tracking.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGINS = {"left": 0.1, "right": 0.98, "bottom": 0.13, "top": 0.97}  # fixed: to find the best ones draws everything twice


def loss(results: Results) -> Figure:
    """Training and validation loss by optimizer step, and the floor where it is known; in nats per token."""
    from matplotlib.figure import Figure  # half a second, which only `track` needs

    figure = Figure(figsize=(7, 4), dpi=100)
    axes = figure.subplots(gridspec_kw=MARGINS)
    for key, label in (("curves/train_loss", "training"), ("curves/val_loss", "validation")):
        points = {step: metrics[key] for step, metrics in results.curve if key in metrics}  # none after 0 epochs of training
        axes.plot(list(points), list(points.values()), label=label, marker="o" if len(points) < 40 else "")
    if floor := results.metrics.get("evaluate/perplexity_floor"):
        axes.axhline(math.log(floor), color="black", linestyle=":", label="the floor: true entropy")
    axes.set(xlabel="optimizer step", ylabel="loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
