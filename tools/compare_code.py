"""What a change of the code does to a small run: DVC's comparison of HEAD with another commit, in Markdown.

python -m tools.compare_code BASE      (make compare-code BASE=main)

The workflow for pull requests shows this on the job's page. The clone in which both ran is left in build/compare-code.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from stages.common import command
from stages.common.params import read_yaml
from stages.tracking.git import git
from tools import elsewhere

FOLDER = Path("build/compare-code")
SMALL: dict[str, Any] = elsewhere.TINY | {  # a pipeline of a minute or two on two cores
    "max_samples": 3000,
    "max_val_samples": 300,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 64,
    "block_size": 128,
    "stride": 128,
    "batch_size": 8,
    "eval_every": 40,
    "checkpoint_every": 1000,
}
AUTHOR = ("-c", "user.name=compare-code", "-c", "user.email=none")


def main(args: argparse.Namespace) -> None:
    """Run both commits in one clone, one after the other, commit what each gives, and let DVC compare the commits."""
    changes = SMALL | elsewhere.parse_changes(args.changes)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.parent.mkdir(exist_ok=True)
    project = elsewhere.clone(FOLDER)
    commits = [git("rev-parse", "--verify", f"{name}^{{commit}}", cwd=Path()) for name in (args.base, "HEAD")]
    results = []
    for commit in commits:
        git("checkout", "--quiet", "--detach", commit, cwd=project)
        known = read_yaml((project / "params.yaml").read_text(encoding="utf-8"))  # the other commit may lack a key
        elsewhere.set_params(project, {key: value for key, value in changes.items() if key in known})
        elsewhere.lend_data(project)
        elsewhere.dvc(project, "repro", "--quiet", shown=sys.stderr)
        git("add", "--all", cwd=project)
        git(*AUTHOR, "commit", "--quiet", "--allow-empty", "--message", f"small run of {commit}", cwd=project)
        results.append(git("rev-parse", "HEAD", cwd=project))
    print(f"## A small run of this commit and of `{args.base[:12]}`\n")
    print(f"The same settings on both sides: {', '.join(f'`{key}={value}`' for key, value in changes.items())}.")
    for what in ("metrics", "params"):
        print(f"\n### {what.title()}\n")
        print(elsewhere.dvc(project, what, "diff", "--md", *results) or "No difference.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commit to compare with, and other params for both sides."""
    parser.add_argument("base", help="a commit, branch or tag")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="key=value", help="a param for both sides")


if __name__ == "__main__":
    command.run(main, __doc__, add_arguments)
