"""Compare a run without a mask to the run with it: table, picture and samples for docs/why-1.23-was-wrong.md.

dvc exp run -n no-mask -S causal=false
python -m docs.make.no_mask
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
from pathlib import Path

from matplotlib.figure import Figure

from docs.make import pages
from stages.common import command

PAGE, PICTURE = Path("docs/why-1.23-was-wrong.md"), Path("docs/images/no-mask.svg")
ROWS = {
    "training perplexity": ("train_perplexity", ".3f"),
    "validation perplexity": ("perplexity", ".3f"),
    "the floor, which no honest model can beat": ("perplexity_floor", ".3f"),
    "validation perplexity / floor": ("floor_ratio", ".3f"),
    "below_floor": ("below_floor", ".0f"),
    "future_leak": ("future_leak", ".3g"),
    "trigram counts' perplexity": ("trigram_perplexity", ".3f"),
}
SMOOTH = 25  # steps averaged in the picture


class Results:
    """What a commit or experiment left in data/."""

    def __init__(self, revision: str) -> None:
        self.metrics: dict[str, float] = json.loads(pages.read_output("data/evaluate/metrics.json", revision))
        history = csv.DictReader(io.StringIO(pages.read_output("data/train/history.csv", revision)))
        self.losses = [(int(row["step"]), float(row["train_loss"])) for row in history]
        sample: str = json.loads(pages.read_output("data/generate/samples.jsonl", revision).split("\n")[0])["text"]
        self.quotation = "\n".join(f"> {line}" for line in sample.strip().splitlines())


def table(masked: Results, unmasked: Results) -> str:
    """The metrics of both runs, in Markdown."""
    lines = ["| | with the mask | without |", "|---|---:|---:|"]
    for label, (key, form) in ROWS.items():
        if key in masked.metrics:
            lines.append(f"| {label} | {masked.metrics[key]:{form}} | {unmasked.metrics[key]:{form}} |")
    return "\n".join(lines)


def picture(masked: Results, unmasked: Results) -> Figure:
    """The training loss of both runs by step, and the floor."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for run, label in ((masked, "with the mask"), (unmasked, "without")):
        steps, losses = zip(*run.losses, strict=True)
        means = [sum(losses[max(0, at - SMOOTH + 1) : at + 1]) / min(SMOOTH, at + 1) for at in range(len(losses))]
        axes.plot(steps, means, label=label)
    if "perplexity_floor" in masked.metrics:
        axes.axhline(
            math.log(masked.metrics["perplexity_floor"]), color="black", linestyle=":", label="the floor: true entropy"
        )
    axes.set(xlabel="optimizer step", ylabel="training loss, nats per token", ylim=(0, None))
    axes.legend()
    return figure


def main(args: argparse.Namespace) -> None:
    """Write the picture, and the page's block of numbers."""
    masked, unmasked = Results("HEAD"), Results("no-mask")
    pages.save(picture(masked, unmasked), PICTURE)
    parts = [
        table(masked, unmasked),
        f"![Training loss with and without the mask](images/{PICTURE.name})",
        f"With the mask it writes:\n\n{masked.quotation}",
        f"Without:\n\n{unmasked.quotation}",
    ]
    pages.write_block(PAGE, "\n\n".join(parts))


if __name__ == "__main__":
    command.run(main, __doc__)
