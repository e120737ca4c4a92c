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

MODEL, TOKENS = Path("data/train/model"), Path("data/tokenize")
FOLDER = Path("data/explain")
PAGE = "explorer.html"


def main(args: argparse.Namespace) -> None:
    """Open every input first, measure, and put the page together."""
    params = load_params(ExplainParams)
    machine.keep_freed_memory()
    machine.set_threads(params.threads)
    validation = TokenFile.open(TOKENS, "validation")
    dataset = str(files.read_json(TOKENS / "meta.json", "tokenize", "dataset")["dataset"])
    tokenizer = Tokenizer.load(TOKENS / "tokenizer.json")
    net = saved_model.load(MODEL, TOKENS).to(machine.pick_device(params.device))
    text = page(Explorer(net, tokenizer, validation, from_storybook=dataset == "storybook").data(dataset))
    files.invalidate(FOLDER, PAGE)
    files.write_text(FOLDER / PAGE, text)
    print(f"{FOLDER / PAGE}: {len(text.encode()) / 1e6:.2f} MB. Look at it: make explore")


if __name__ == "__main__":
    command.run(main, __doc__)
