"""Experiments on real stories: one base, and one change at a time. Table, picture and samples for docs/real-stories.md.

    python -m docs.make.real_stories run FOLDER      # FOLDER as `dataset`: queues them and starts two workers
    python -m docs.make.real_stories show            # when `dvc queue status` shows that all have finished

Each is a plain DVC experiment with one thread, so that two at a time share two cores equally. `run` prints the commands.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from docs.make import pages
from stages.common import command
from stages.common.errors import UserError
from tools.recorded_run import Recorded

PAGE, PICTURE = Path("docs/real-stories.md"), Path("docs/images/real-stories.svg")
BASE: dict[str, Any] = {
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 192,
    "epochs": 1,
    "learning_rate": 0.003,
    "min_learning_rate": 0.0003,
    "eval_every": 200,
    "threads": 1,
}
CHANGES: dict[str, dict[str, Any]] = {  # the experiment's name: what it changes
    "base": {},
    "learned-positions": {"position": "learned"},
    "full-vocabulary": {"vocabulary": "full"},
    "muon": {"optimizer": "muon"},
    "stories-1000": {"max_samples": 1_000, "epochs": 10},  # as many steps as the base, over less text
    "stories-3000": {"max_samples": 3_000, "epochs": 3},
    "width-96": {"n_embd": 96},
    "width-384": {"n_embd": 384, "learning_rate": 0.0008},
}
PANELS = {  # of the picture: which curves are drawn together
    "positions and vocabulary": ("base", "learned-positions", "full-vocabulary"),
    "optimizer": ("base", "muon"),
    "training stories (same number of steps)": ("stories-1000", "stories-3000", "base"),
    "width": ("width-96", "base", "width-384"),
}
SHOWN = ("width-96", "base", "width-384")  # whose first samples are shown


def run(dataset: str) -> None:
    """Queue all experiments and start two workers, which continue in the background."""
    for name, changes in CHANGES.items():
        values = {"dataset": dataset} | BASE | changes
        dvc("exp", "run", "--queue", "-n", name, *(word for key, value in values.items() for word in ("-S", f"{key}={value}")))
    dvc("queue", "start", "-j", "2")
    print("\nWatch them: dvc queue status, make ui. Then: python -m docs.make.real_stories show")


def dvc(*words: str) -> None:
    """Run a DVC command and show it.

    Raises:
        UserError: it failed.
    """
    print("dvc", *words, flush=True)
    if subprocess.run([sys.executable, "-m", "dvc", *words], check=False).returncode:
        raise UserError(f"dvc {' '.join(words)} failed; see above")


def curve(run: Recorded) -> list[tuple[int, float]]:
    """Its validation loss by step."""
    return sorted((point.step, point.value) for point in run.client.get_metric_history(run.id, "val_loss"))


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
        m, changed = one.metrics, " ".join(f"`{key}={value}`" for key, value in CHANGES[name].items())
        lines.append(
            f"| {name} | {changed} | {m['parameters'] / 1e6:.1f} M | {m['seconds_train'] / 60:.1f} "
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
            axes.plot(*zip(*curve(runs[name]), strict=True), marker=".", label=name)
        axes.set(title=title, ylim=(2.6, 4.5))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.supxlabel("optimizer step")
    figure.supylabel("validation loss, nats per token")
    return figure


def show() -> None:
    """Write the picture, and the page's block."""
    runs = {name: Recorded(name) for name in CHANGES}
    pages.save(picture(runs), PICTURE)
    samples = [f"**{name}** ({runs[name].metrics['parameters'] / 1e6:.1f} M):\n\n> {sample(runs[name])}" for name in SHOWN]
    tags = runs["base"].tags
    parts = [
        f"Each on one core of {tags['machine.cpu']}, {tags['machine.precision']}:",
        table(runs),
        f"![Validation loss by step](images/{PICTURE.name})",
        *samples,
    ]
    pages.write_block(PAGE, "\n\n".join(parts))


def main(args: argparse.Namespace) -> None:
    """Queue the experiments, or show their results."""
    if args.what == "show":
        show()
    elif args.folder:
        run(args.folder)
    else:
        raise UserError("run what? Name the folder with train.jsonl and validation.jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which stories."""
    parser.add_argument("what", choices=("run", "show"))
    parser.add_argument("folder", nargs="?", help="data set, as `dataset` in params.yaml takes it")


if __name__ == "__main__":
    command.run(main, __doc__, add_arguments)
