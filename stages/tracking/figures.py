"""Figures: the curves as pictures, for the runs' pages in MLflow."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.figure import Figure

from stages.tracking import results

Points = list[tuple[int, float]]


def all_figures() -> dict[str, Figure]:
    """The pictures by name: loss by step, by epoch and by position in the context. Loss in nats a token."""
    curves: dict[str, Points] = {}
    for step, metrics in results.curve():
        for key, value in metrics.items():
            curves.setdefault(key, []).append((step, value))
    floor = results.metrics().get("perplexity_floor")
    by_position = [(int(row["position"]), float(row["loss"])) for row in results.rows("evaluate", "loss_by_position")]
    return {
        "loss": _lines({"training": curves["train_loss"], "validation": curves["val_loss"]}, "optimizer step", floor),
        "epochs": _lines({"training": curves["epoch_train_loss"], "validation": curves["epoch_val_loss"]}, "epoch", floor),
        "position": _lines({"validation": by_position}, "position in the context, tokens"),
    }


def _lines(curves: Mapping[str, Points], below: str, floor: float | None = None) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    for label, points in curves.items():
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, marker="o" if len(points) < 40 else "")
    if floor is not None:
        axes.axhline(math.log(floor), color="black", linestyle=":", label="the floor: true entropy")
    axes.set(xlabel=below, ylabel="loss, nats a token")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
