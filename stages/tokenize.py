"""Turn the stories into GPT-2 tokens: data/tokenize/{train,validation}.npy with offsets, tokenizer.json and meta.json."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import command, files
from stages.common.params import TokenizeParams, load_params
from stages.common.progress import bar
from stages.common.terminal import pluralize
from stages.corpus import initial, stories, tokens
from stages.corpus.tokenizer import GPT2_SIZE, Tokenizer

SOURCE, FOLDER = Path("data/download"), Path("data/tokenize")


def main(args: argparse.Namespace) -> None:
    """Write both splits and the tokenizer, then meta.json, which says that they are whole. Damaged stories change nothing."""
    vocabulary = load_params(TokenizeParams).vocabulary
    about = files.read_json(SOURCE / "about.json", made_by="download")
    network = initial.read()  # one that training starts from brings its own tokenizer
    given = Tokenizer.gpt2() if network is None else Tokenizer.load(initial.FOLDER / "tokenizer.json", made_by="download")
    if network:
        initial.check_shape(network["init_from"], network["shape"], {"vocabulary": vocabulary})
    files.remove_temporary(FOLDER)
    with ExitStack() as unfinished:
        chosen, train = write_split(unfinished, given, "train", prune=vocabulary == "corpus" and network is None)
        chosen, validation = write_split(unfinished, chosen, "validation")
        (FOLDER / "meta.json").unlink(missing_ok=True)  # all could be read: from here on the folder changes
    files.write_text(FOLDER / "tokenizer.json", chosen.to_json())
    meta = {"vocab_size": chosen.vocab_size, "end_of_text": chosen.end_of_text, "vocabulary": vocabulary}
    splits = {"train": train, "validation": validation}
    for split, facts in splits.items():
        facts["sha256"] = files.digest(FOLDER / f"{split}.npy")
    data = {"dataset": about["dataset"], "origin": origin(about), "license": about["license"]}  # for the model card
    files.write_json(FOLDER / "meta.json", meta | data | {"splits": splits})
    print(f"vocabulary: {chosen.vocab_size:,} of GPT-2's {GPT2_SIZE:,} tokens")


def origin(about: Mapping[str, Any]) -> str:
    """Where the stories of an about.json are from: storybook, hub or local. Only what is on the Hub has a commit."""
    return "storybook" if about["dataset"] == "storybook" else "hub" if about["revision"] else "local"


def write_split(
    unfinished: ExitStack, tokenizer: Tokenizer, split: str, prune: bool = False
) -> tuple[Tokenizer, dict[str, Any]]:
    """Tokenize one split; `prune` then cuts the vocabulary to what it used and renumbers the tokens.

    The files appear when `unfinished` ends.

    Returns:
        The tokenizer that the file is in, and what meta.json says about the split.
    """
    path = SOURCE / f"{split}.parquet"
    used = np.zeros(tokenizer.vocab_size, dtype=bool)
    text_bytes = words = 0
    total = stories.count(path)
    writer = unfinished.enter_context(tokens.writing(FOLDER, split, tokenizer.end_of_text))
    with bar(total, f"tokenize {split}", "story") as progress:
        for texts in stories.read(path):
            ids, counts = tokenizer.encode_batch(texts)
            used[ids] = True
            writer.add(ids, counts)
            text_bytes += sum(len(text.encode()) for text in texts)
            words += sum(len(text.split()) for text in texts)
            progress.update(len(texts))
    if prune:
        tokenizer, table = tokenizer.prune(used)
        writer.renumber(table, tokenizer.end_of_text)
    made = writer.length - 1
    print(f"{split}: {pluralize(writer.stories, 'story', 'stories')}, {made:,} tokens, {made / writer.stories:.1f} per story")
    return tokenizer, {"stories": writer.stories, "tokens": made, "bytes": text_bytes, "words": words}


if __name__ == "__main__":
    command.run(main, __doc__)
