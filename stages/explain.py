"""Look inside the trained network: data/explain/explorer.html, one page that shows what it computes on real stories."""

from __future__ import annotations

import argparse
from pathlib import Path

from stages.common import command, files
from stages.common.params import ExplainParams, load_params
from stages.compute import machine, saved_model
from stages.corpus.tokenizer import Tokenizer
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
    samples = files.read_jsonl(SAMPLES, "generate", "prompt", "ids", "finished")
    moments = files.read_jsonl(TRAIN / "samples.jsonl", "train", "step", "texts")
    losses = val_losses(TRAIN / "validation.csv")
    training = [{**moment, "val_loss": losses.get(moment["step"])} for moment in moments]
    tokenizer = Tokenizer.load(TOKENS / "tokenizer.json")
    net = saved_model.load(TRAIN / "model", TOKENS).to(machine.pick_device(params.device))
    explorer = Explorer(net, tokenizer, validation, from_storybook=dataset == "storybook")
    text = page(explorer.data(dataset, samples, training))
    files.invalidate(FOLDER, PAGE)
    files.write_text(FOLDER / PAGE, text)
    print(f"{FOLDER / PAGE}: {len(text.encode()) / 1e6:.2f} MB. Look at it: make explore")


def val_losses(path: Path) -> dict[int, float]:
    """Validation loss by step, nats per token."""
    return {int(row["step"]): row["val_loss"] for row in files.read_csv(path, "train", "step", "val_loss")}


if __name__ == "__main__":
    command.run(main, __doc__)
