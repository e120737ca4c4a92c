"""Tokenization throughput: the pipeline's batch path against transformers' GPT2TokenizerFast, in turns in one process.

    python -m benchmarks.token_engines [FILE.jsonl] [--stories 20000] [--rounds 3]

Both sides encode the same stories (the storybook's, or the column `text` of a file of JSON lines) on all cores, in the batches
of the stage tokenize, and must give the same ids. A round is two passes over all stories with new tokenizers. A tokenizer
caches the words that it has seen, so the first pass is the cost of a small corpus and the second the cost of each further part
of a large one. CPU time hardly depends on other programs.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.corpus import tokenizer
from stages.storybook import story as storybook

BATCH = 4096  # stories, as the stage reads them
PASSES = ("first pass", "second pass")
Ids = NDArray[np.uint32] | list[list[int]]
Encode = Callable[[list[str]], Ids]


def ours() -> Encode:
    """The stage's code path; its engine is built in the first pass."""
    codec = tokenizer.gpt2()
    return lambda texts: codec.encode_batch(texts)[0]


def theirs() -> Encode:
    """GPT2TokenizerFast with the same vocabulary, built before the first pass. It does not have to make an attention mask."""
    from transformers import GPT2TokenizerFast

    model = json.loads(tokenizer.gpt2().to_json())["model"]
    fast = GPT2TokenizerFast(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])

    return lambda texts: list(fast(texts, split_special_tokens=True, return_attention_mask=False)["input_ids"])


def batches(texts: list[str]) -> Iterator[list[str]]:
    """The stories in batches."""
    for first in range(0, len(texts), BATCH):
        yield texts[first : first + BATCH]


def timed(encode: Encode, texts: list[str]) -> tuple[NDArray[np.float64], NDArray[np.uint32]]:
    """Seconds and CPU seconds of one pass, (2,), and all ids; joining the ids is not counted."""
    seconds, ids = np.zeros(2), []
    for batch in batches(texts):
        start = time.perf_counter(), time.process_time()
        rows = encode(batch)
        seconds += (time.perf_counter() - start[0], time.process_time() - start[1])
        ids.append(rows if isinstance(rows, np.ndarray) else np.fromiter(chain.from_iterable(rows), np.uint32))
    return seconds, np.concatenate(ids)


def main() -> None:
    """Read the stories, then measure round after round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="JSON lines with a column text (default: the storybook)")
    parser.add_argument("--stories", type=int, default=20_000, help="at most this many")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    if args.file:
        with open(args.file, encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in islice(file, args.stories)]
    else:
        texts = [story.text for story in storybook.stories(args.stories, storybook.TRAIN_SEED)]
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    sides = {"ours": ours, "GPT2TokenizerFast": theirs}
    seconds: dict[tuple[str, str], list[NDArray[np.float64]]] = {(side, which): [] for side in sides for which in PASSES}
    expected: NDArray[np.uint32] | None = None
    for turn in range(args.rounds):
        for side in list(sides) if turn % 2 == 0 else reversed(list(sides)):
            encode = sides[side]()
            for which in PASSES:
                taken, ids = timed(encode, texts)
                seconds[side, which].append(taken)
                expected = ids if expected is None else expected
                if not np.array_equal(ids, expected):
                    raise SystemExit(f"{side} gives other ids")
    assert expected is not None
    print(f"{len(texts):,} stories, {megabytes:.1f} MB, {len(expected):,} tokens: the same ids on both sides in every pass")
    for which in PASSES:
        medians = {side: np.median(seconds[side, which], axis=0) for side in sides}
        for side, (taken, cpu) in medians.items():
            rates = f"{megabytes / taken:8.1f} MB/s {len(expected) / taken:14,.0f} tokens/s"
            print(f"{which}, {side:<18}{taken:8.3f} s {cpu:8.3f} CPU s {rates}")
        faster, less = medians["GPT2TokenizerFast"] / medians["ours"]
        print(f"{which}: {faster:.1f} times as fast, in {less:.1f} times less CPU time")


if __name__ == "__main__":
    main()
