"""What a change of the code does: the same small pipeline at two commits, side by side, as Markdown.

python -m tools.compare_code BASE      (make compare-code BASE=main; HEAD is the other side)

The workflow for pull requests puts this on the job's page. Tables, picture and both clones are left in build/compare-code.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from stages.common import command, errors, files, session
from stages.common.params import read_yaml, write_yaml
from tools.recorded_run import clean_environment

PLACE = Path("build/compare-code")
SMALL: dict[str, Any] = {  # a pipeline of a minute or two on two cores
    **{"max_samples": 3000, "max_val_samples": 300, "n_layer": 4, "n_head": 4, "n_embd": 64, "epochs": 2},
    **{"eval_every": 40, "checkpoint_every": 1000, "threads": 1, "device": "cpu", "precision": "fp32"},
}
Points = list[tuple[int, float]]


def main(args: argparse.Namespace) -> None:
    """Run both, commit what came out in each clone, and let DVC compare the commits."""
    changes = SMALL | {key: read_yaml(value) for key, _, value in (pair.partition("=") for pair in args.changes)}
    shutil.rmtree(PLACE, ignore_errors=True)
    sides = {name: clone(PLACE / name, revision) for name, revision in (("base", args.base), ("head", "HEAD"))}
    for folder in sides.values():
        run(folder, changes)
    head = sides["head"]
    git(head, "fetch", "--quiet", str(sides["base"].resolve()), "HEAD:refs/heads/base")
    losses = {name: points(folder / "data/train/validation.csv") for name, folder in sides.items()}
    with matplotlib.rc_context({"svg.hashsalt": "loss"}):
        picture(losses).savefig(PLACE / "loss.svg", metadata={"Date": None})
    text = "\n\n".join(
        [
            f"## A small run of this commit and of `{args.base[:12]}`",
            f"The same settings on both sides: {', '.join(f'`{key}={value}`' for key, value in changes.items())}.",
            "### Metrics",
            dvc(head, "metrics", "diff", "--md", "base", "HEAD") or "No metric changed.",
            "### Params",
            dvc(head, "params", "diff", "--md", "base", "HEAD") or "No param changed.",
            "### Validation loss, nats per token",
            chart(losses),
            table(losses),
        ]
    )
    files.write_text(PLACE / "summary.md", text + "\n")
    print(text)


def clone(folder: Path, revision: str) -> Path:
    """A clone of this checkout at a commit.

    Raises:
        UserError: there is no such commit.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    commit = git(session.root(), "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    git(Path(), "clone", "--quiet", "--no-checkout", str(session.root()), str(folder))
    git(folder, "checkout", "--quiet", commit)
    return folder


def run(folder: Path, changes: dict[str, Any]) -> None:
    """Run the pipeline of a clone with these params, as far as it knows them, and commit metrics and dvc.lock there.

    Raises:
        UserError: it failed.
    """
    path = folder / "params.yaml"
    params = read_yaml(path.read_text(encoding="utf-8"))
    path.write_text(write_yaml(params | {key: changes[key] for key in changes if key in params}), encoding="utf-8")
    store = f"sqlite:///{(folder / 'mlflow.db').resolve().as_posix()}"
    words = [sys.executable, "-m", "dvc", "repro", "--quiet"]
    done = subprocess.run(words, cwd=folder, env=clean_environment(MLFLOW_TRACKING_URI=store), stdout=sys.stderr, check=False)
    if done.returncode:
        raise errors.UserError(f"the pipeline in {folder} failed; see above")
    git(folder, "add", "--all")
    who = ("-c", "user.name=compare-code", "-c", "user.email=none")
    git(folder, *who, "commit", "--quiet", "--allow-empty", "--message", "a small run")


def git(folder: Path, *words: str) -> str:
    """What a git command says.

    Raises:
        UserError: it failed.
    """
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise errors.UserError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def dvc(folder: Path, *words: str) -> str:
    """What a DVC command says in a clone.

    Raises:
        UserError: it failed.
    """
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise errors.UserError(f"dvc {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def points(path: Path) -> Points:
    """A validation curve: (step, nats per token)."""
    with open(path, encoding="utf-8", newline="") as file:
        return [(int(row["step"]), float(row["val_loss"])) for row in csv.DictReader(file)]


def chart(losses: dict[str, Points]) -> str:
    """The curves as a Mermaid chart, which GitHub draws in a job's summary. Each curve has a point for each evaluation."""
    values = [value for curve in losses.values() for _, value in curve]
    last = max(step for curve in losses.values() for step, _ in curve)
    lines = [f"  line [{', '.join(f'{value:.4f}' for _, value in curve)}]" for curve in losses.values()]
    axes = [f'  x-axis "optimizer step" 0 --> {last}', f"  y-axis {min(values) - 0.1:.2f} --> {max(values) + 0.1:.2f}"]
    return "\n".join(["```mermaid", "xychart-beta", *axes, *lines, "```", f"Lines in this order: {', '.join(losses)}."])


def table(losses: dict[str, Points]) -> str:
    """The curves as a table, a row for each step at which one of them was measured."""
    by_step = {name: dict(curve) for name, curve in losses.items()}
    rows = [f"| step | {' | '.join(losses)} |", "|---:|" + "---:|" * len(losses)]
    for step in sorted({step for curve in by_step.values() for step in curve}):
        cells = (f"{curve[step]:.4f}" if step in curve else "" for curve in by_step.values())
        rows.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(rows)


def picture(losses: dict[str, Points]) -> Figure:
    """The curves in one picture."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in losses.items():
        axes.plot(*zip(*curve, strict=True), marker="o", label=name)
    axes.set(xlabel="optimizer step", ylabel="validation loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commit to compare with, and other params for both sides."""
    parser.add_argument("base", help="a commit, branch or tag")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="key=value", help="a param for both sides")


if __name__ == "__main__":
    command.run(main, __doc__, add_arguments)
