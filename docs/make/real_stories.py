"""Table, picture and samples of the experiments on docs/real-stories.md, which lists their commands.

python -m docs.make.real_stories      # when `dvc queue status` shows that all have finished
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from docs.make import pages
from stages.common import command
from tools.recorded_run import Recorded

PAGE, PICTURE = Path("docs/real-stories.md"), Path("docs/images/real-stories.svg")
CHANGES = {  # the experiment's name: what it changes
    "base": "",
    "learned-positions": "`position=learned`",
    "full-vocabulary": "`vocabulary=full`",
    "muon": "`optimizer=muon`",
    "stories-1000": "`max_samples=1000` `epochs=10`",  # as many steps as the base, over less text
    "stories-3000": "`max_samples=3000` `epochs=3`",
    "width-96": "`n_embd=96`",
    "width-384": "`n_embd=384` `learning_rate=0.0008`",
}
PANELS = {  # of the picture: which curves are drawn together
    "positions and vocabulary": ("base", "learned-positions", "full-vocabulary"),
    "optimizer": ("base", "muon"),
    "training stories (same number of steps)": ("stories-1000", "stories-3000", "base"),
    "width": ("width-96", "base", "width-384"),
}
SHOWN = ("width-96", "base", "width-384")  # whose first samples are shown


def sample(run: Recorded) -> str:
    """Its first sample."""
    table = run.client.load_table(run.experiment_id, "samples/samples.json", [run.id])
    return " ".join(str(table["text"][0]).split())


def table(runs: Mapping[str, Recorded]) -> str:
    """The changed params and the results, in Markdown."""
    lines = [
        "| experiment | change | parameters | minutes | perplexity (95 % interval) | on training text | bits per byte |",
        "|---|---|---:|---:|---|---:|---:|",
    ]
    for name, one in runs.items():
        m = {key.rpartition("/")[2]: value for key, value in one.metrics.items()}  # without their group
        lines.append(
            f"| {name} | {CHANGES[name]} | {m['parameters'] / 1e6:.1f} M | {m['seconds_train'] / 60:.1f} "
            f"| {m['perplexity']:.2f} ({m['perplexity_low']:.2f} to {m['perplexity_high']:.2f}) "
            f"| {m['train_perplexity']:.2f} | {m['bits_per_byte']:.3f} |"
        )
    return "\n".join(lines)


def picture(runs: Mapping[str, Recorded]) -> Figure:
    """Validation loss by step, a panel for each question."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, (title, names) in zip(panels, PANELS.items(), strict=True):
        for name in names:
            history = runs[name].client.get_metric_history(runs[name].id, "curves/val_loss")
            points = sorted((point.step, point.value) for point in history)
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set(title=title, ylim=(2.6, 4.5))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.supxlabel("optimizer step")
    figure.supylabel("validation loss, nats per token")
    return figure


def main(args: argparse.Namespace) -> None:
    """Write the picture, and the page's block."""
    runs = {name: Recorded(name) for name in CHANGES}
    pages.save(picture(runs), PICTURE)
    millions = {name: run.metrics["train/parameters"] / 1e6 for name, run in runs.items()}
    samples = [f"**{name}** ({millions[name]:.1f} M):\n\n> {sample(runs[name])}" for name in SHOWN]
    tags = runs["base"].tags
    parts = [
        f"Each on one core of {tags['machine.cpu']}, {tags['machine.precision']}:",
        table(runs),
        f"![Validation loss by step](images/{PICTURE.name})",
        *samples,
    ]
    pages.write_block(PAGE, "\n\n".join(parts))


if __name__ == "__main__":
    command.run(main, __doc__)
