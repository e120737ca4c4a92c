"""Figures: the curves as pictures, for the runs' pages in MLflow."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from stages.tracking.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = list[tuple[int, float]]
MARGINS = {"left": 0.1, "right": 0.98, "bottom": 0.13, "top": 0.97}  # fixed: to find the best ones draws everything twice


def all_figures(results: Results) -> dict[str, Figure]:
    """The pictures by name: loss by step, by epoch and by position in the context. Loss in nats per token."""
    curves: defaultdict[str, Points] = defaultdict(list)  # by name; a training of 0 epochs has no training loss
    for step, metrics in results.curve:
        for key, value in metrics.items():
            curves[key].append((step, value))
    floor = results.metrics.get("evaluate/perplexity_floor")
    return {
        name: _lines({"training": curves[f"{group}/train_loss"], "validation": curves[f"{group}/val_loss"]}, below, floor)
        for name, group, below in (("loss", "curves", "optimizer step"), ("epochs", "epochs", "epoch"))
    } | {
        "position": _lines({"validation": results.by_position}, "position in the context, tokens"),
    }


def _lines(curves: Mapping[str, Points], below: str, floor: float | None = None) -> Figure:
    from matplotlib.figure import Figure  # half a second, which only `track` needs

    figure = Figure(figsize=(7, 4), dpi=100)
    axes = figure.subplots(gridspec_kw=MARGINS)
    for label, points in curves.items():
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, marker="o" if len(points) < 40 else "")
    if floor is not None:
        axes.axhline(math.log(floor), color="black", linestyle=":", label="the floor: true entropy")
    axes.set(xlabel=below, ylabel="loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
