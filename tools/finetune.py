"""Fine-tune a trained GPT-2 on your own text: an experiment whose params are the network's shape, and settings that were tried.

python -m tools.finetune DATA [MODEL]      (make finetune DATA=my.txt MODEL=openai-community/gpt2)
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from typing import Any

from stages.common import command
from stages.sources import pretrained
from stages.tracking.provenance import override_word

RATE, WIDTH = 0.0003, 768  # learning rate at this width, the best of `make gpt2-small`; it falls as the width grows
CONTEXT = 256  # tokens: attention over GPT-2's whole 1,024 would cost more than a short text gives back
SETTINGS: dict[str, Any] = {  # docs/fine-tune.md has the measurements
    "max_samples": None,
    "max_val_samples": None,
    "epochs": 3,
    "batch_size": 8,
    "warmup_steps": 20,
    "dropout": 0.1,
    "eval_every": 50,
    "keep": "best",
}


def main(args: argparse.Namespace) -> None:
    """Ask the network for its shape, type the command, and run it."""
    words = experiment(args.data, args.model, args.revision)
    print(shlex.join(words), flush=True)
    sys.exit(subprocess.run([sys.executable, "-m", *words], check=False).returncode)


def experiment(data: str, model: str, revision: str | None) -> list[str]:
    """The words of `dvc exp run`.

    Raises:
        UserError: there is no such network, or it cannot be read.
    """
    shape = pretrained.shape_of(model, revision)
    context = min(CONTEXT, shape["block_size"])
    params: dict[str, Any] = {"init_from": model, "init_revision": revision, "dataset": data, "dataset_revision": None}
    rate = float(f"{RATE * WIDTH / shape['n_embd']:.2g}")
    params |= {"learning_rate": rate, "min_learning_rate": "1/10"}
    params |= shape | {"block_size": context, "stride": context} | SETTINGS
    changes = [f"{key}={override_word(value)}" for key, value in params.items()]
    return ["dvc", "exp", "run", *(word for change in changes for word in ("-S", change))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to train on, and what to start from."""
    parser.add_argument("data", help="a file or folder with text, or a data set of the Hub")
    parser.add_argument("model", nargs="?", default="openai-community/gpt2", help="a GPT-2 of the Hub, or a folder with one")
    parser.add_argument("--revision", help="commit of the network on the Hub (default: the newest)")


if __name__ == "__main__":
    command.run(main, __doc__, add_arguments)
