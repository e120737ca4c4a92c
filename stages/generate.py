"""Write stories with the trained network: data/generate/ gets samples.md, samples.jsonl and metrics.json.

By hand, with any option, the text goes to the terminal as it is written, and no file changes:
    python -m stages.generate --prompt "The dragon" --temperature 0.7
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from model import GPT2
from stages.common import command, files
from stages.common.params import GenerateParams, load_params, parse_part
from stages.common.terminal import printable
from stages.compute import machine, saved_model
from stages.corpus import initial
from stages.corpus.tokenizer import Tokenizer
from stages.corpus.tokens import TokenFile
from stages.generation import prompt_notes, sampler, samples_page, text_metrics
from stages.generation.longest_copy import longest_copy
from stages.generation.text_metrics import METRICS

MODEL, TOKENS, FOLDER = Path("data/train/model"), Path("data/tokenize"), Path("data/generate")
OPTIONS: dict[str, type] = {  # params that the command line may replace
    "prompt": str,
    "num_samples": int,
    "max_new_tokens": int,
    "temperature": float,
    "top_k": int,
    "top_p": float,
    "seed": int,
}


def main(args: argparse.Namespace) -> None:
    """Read the network, then write files, or to the terminal if any option was given."""
    params = load_params(GenerateParams)
    given = {key: getattr(args, key) for key in OPTIONS if getattr(args, key) is not None}
    if given:
        params = parse_part(GenerateParams, params.model_dump() | {"num_samples": 1} | given, "the command line")
    machine.keep_freed_memory()
    machine.set_threads(params.threads)
    tokenizer = Tokenizer.load(TOKENS / "tokenizer.json")
    device = machine.pick_device(params.device)
    net = saved_model.load(MODEL, TOKENS).to(device)
    if given:
        speak(net, tokenizer, params)
    else:
        before = saved_model.load_initial(initial.FOLDER, net.config).to(device) if initial.read() else None
        write(net, before, tokenizer, params)


def write(net: GPT2, before: GPT2 | None, tokenizer: Tokenizer, params: GenerateParams) -> None:
    """The stage's outputs; `before`: the network that training started from, which writes the first sample once."""
    train = TokenFile.open(TOKENS, "train")
    show_notes(tokenizer, params, train)
    dataset = files.read_json(TOKENS / "meta.json", made_by="tokenize")["dataset"]
    found = sampler.write(net, tokenizer, params)
    one = params.model_copy(update={"prompt": params.prompts[0], "num_samples": 1})
    untrained = sampler.write(before, tokenizer, one) if before else []
    metrics: dict[str, Any] = text_metrics.measure(found, dataset)
    metrics["longest_copy"] = longest_copy([sample.tokens for sample in found], train.stream)
    rows = [
        {"prompt": one.prompt, "sample": one.number, "text": one.text, "tokens": len(one.tokens), "finished": one.finished}
        | {"ids": one.tokens}  # the text alone may be cut into tokens in more than one way
        for one in found
    ]
    files.invalidate(FOLDER, "metrics.json")
    files.write_jsonl(FOLDER / "samples.jsonl", rows)
    files.write_text(FOLDER / "samples.md", samples_page.text(found, settings(params), untrained))
    files.write_metrics(FOLDER / "metrics.json", metrics, METRICS)
    print(f"\n{printable(found[0].text)}\n\n{', '.join(f'{key} {value:.4g}' for key, value in metrics.items())}")


def speak(net: GPT2, tokenizer: Tokenizer, params: GenerateParams) -> None:
    """Text to the terminal, piece by piece."""
    show_notes(tokenizer, params, TokenFile.open(TOKENS, "train") if (TOKENS / "train.npy").exists() else None)
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    for place, prompt in enumerate(params.prompts):
        for number in range(1, params.num_samples + 1):
            print(f"{bold}{printable(prompt)}{plain}", end="", flush=True)
            for piece in sampler.speak(net, tokenizer, params, place, number):
                print(printable(piece), end="", flush=True)
            print("\n")


def show_notes(tokenizer: Tokenizer, params: GenerateParams, train: TokenFile | None) -> None:
    """What to know about the prompts; without the training tokens, what can be said."""
    for note in prompt_notes.notes(tokenizer, params.prompts, train.stream if train else None):
        print(f"note: {printable(note)}", file=sys.stderr)


def settings(params: GenerateParams) -> str:
    """How the samples were drawn, in words."""
    limits = [f"{name} {value}" for name, value in (("top_k", params.top_k), ("top_p", params.top_p)) if value is not None]
    return ", ".join(
        [f"Temperature {params.temperature}", *limits, f"at most {params.max_new_tokens} new tokens, seed {params.seed}"]
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each replaceable param."""
    for key, kind in OPTIONS.items():
        parser.add_argument(
            f"--{key.replace('_', '-')}", type=kind, help=f"default: {'1' if key == 'num_samples' else 'as in params.yaml'}"
        )


if __name__ == "__main__":
    command.run(main, __doc__, add_arguments)
