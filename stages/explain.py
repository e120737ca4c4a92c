"""Look inside the trained network: data/explain/explorer.html, one page that shows what it computes on real stories."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from stages.common import command, files
from stages.common.params import ExplainParams, load_params
from stages.compute import machine, saved_model
from stages.corpus import tokenizer
from stages.corpus.tokens import TokenFile
from stages.explanation.explorer import Explorer
from stages.explanation.page import page

TRAIN, TOKENS, SAMPLES = Path("data/train"), Path("data/tokenize"), Path("data/generate/samples.jsonl")
FOLDER = Path("data/explain")
PAGE = "explorer.html"


def main(args: argparse.Namespace) -> None:
    """Open every input first, measure, and put the page together."""
    params = load_params(ExplainParams)
    machine.keep_freed_memory()
    machine.set_threads(params.threads)
    validation = TokenFile.open(TOKENS, "validation")
    dataset = str(files.read_json(TOKENS / "meta.json", "tokenize", "dataset")["dataset"])
    samples = read_lines(SAMPLES, "generate", "prompt", "ids", "finished")
    moments = read_lines(TRAIN / "samples.jsonl", "train", "step", "texts")
    losses = val_losses(TRAIN / "validation.csv")
    training = [{**moment, "val_loss": losses.get(moment["step"])} for moment in moments]
    codec = tokenizer.load(TOKENS / "tokenizer.json")
    net = saved_model.load(TRAIN / "model", TOKENS).to(machine.pick_device(params.device))
    explorer = Explorer(net, codec, validation, from_storybook=dataset == "storybook")
    text = page(explorer.data(dataset, samples, training))
    files.start_over(FOLDER, PAGE)
    files.write_text(FOLDER / PAGE, text)
    print(f"{FOLDER / PAGE}: {len(text.encode()) / 1e6:.2f} MB. Look at it: make explore")


def read_lines(path: Path, made_by: str, *keys: str) -> list[dict[str, Any]]:
    """The rows of a JSON lines file.

    Raises:
        UserError: the file is missing or damaged, or one of the `keys` is not in every row.
    """
    lines = files.need(path, made_by).read_text(encoding="utf-8").split("\n")
    try:
        rows = [json.loads(line) for line in lines if line]
        return [{key: row[key] for key in keys} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise files.damaged(path, repr(error), made_by) from error


def val_losses(path: Path) -> dict[int, float]:
    """Validation loss by step, nats per token."""
    with open(files.need(path, "train"), encoding="utf-8", newline="") as file:
        try:
            return {int(row["step"]): float(row["val_loss"]) for row in csv.DictReader(file)}
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise files.damaged(path, repr(error), "train") from error


if __name__ == "__main__":
    command.run(main, __doc__)
