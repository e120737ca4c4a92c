"""Speed of generation: our `generate` against transformers', with the same weights in fp32, in turns in one process.

    python -m benchmarks.generate [--shapes tiny default] [--model FOLDER] [--batch 1 5] [--tokens 100] [--rounds 5]
                                  [--device cuda] [--threads 1]

Both have a KV cache. A short run is `--shapes default --rounds 3 --tokens 50`. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import harness
from model import GPT2, GPT2Config, generate, hf
from stages.common import files
from stages.common.terminal import pluralize
from stages.compute import machine
from stages.compute.cuda_graph import cuda_graph

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"vocab_size": 50_257, "n_layer": 4, "n_head": 4, "n_embd": 128},
    "default": {"vocab_size": 2_517, "n_layer": 12, "n_head": 12, "n_embd": 96},
    "small": {"vocab_size": 50_257, "n_layer": 12, "n_head": 12, "n_embd": 768},
}
CONTEXT, PROMPT = 128, 5  # tokens
Generate = Callable[[Tensor, int, bool], Tensor]  # (prompt, new tokens, whether to sample) -> all tokens


def ours(net: GPT2) -> Generate:
    """Our loop; it draws from the whole distribution, on a GPU with recorded steps."""

    def write(prompt: Tensor, count: int, sample: bool) -> Tensor:
        record = cuda_graph(prompt.device) if prompt.is_cuda else None
        return generate(net, prompt, count, temperature=1.0 if sample else 0.0, record=record)

    return write


def theirs(net: GPT2) -> Generate:
    """transformers' loop with the same weights; `top_k=0`: the whole distribution too."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        hf.save(net, folder)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder).to(net.wte.weight.device)

    def run(prompt: Tensor, count: int, sample: bool) -> Tensor:
        mask = torch.ones_like(prompt)
        tokens: Tensor = model.generate(
            prompt, attention_mask=mask, max_new_tokens=count, do_sample=sample, top_k=0, use_cache=True, pad_token_id=0
        )
        return tokens

    return run


def compare(name: str, net: GPT2, batches: list[int], count: int, rounds: int) -> list[list[str]]:
    """The table's rows of one network: for each batch size, greedy and sampled."""
    sides, rows = {"ours": ours(net), "theirs": theirs(net)}, []
    for batch in batches:
        prompt = torch.randint(net.config.vocab_size, (batch, PROMPT)).to(net.wte.weight.device)
        for sample in (False, True):

            def turn(side: Generate, prompt: Tensor = prompt, sample: bool = sample) -> float:
                start = time.perf_counter()
                tokens = side(prompt, count, sample).cpu()  # a GPU is done only then
                assert tokens.shape == (prompt.size(0), PROMPT + count)
                return time.perf_counter() - start

            turns = {key: partial(turn, side) for key, side in sides.items()}
            harness.take_turns(turns, 1)  # warms up
            times = harness.take_turns(turns, rounds)
            speeds = [f"{batch * count / statistics.median(own):,.0f}" for own in times.values()]
            ratio = harness.ratio(times["theirs"], times["ours"])
            rows.append([name, f"{batch}", "sampled" if sample else "greedy", *speeds, ratio])
    return rows


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="*", choices=SHAPES, default=["tiny", "default"], help="random weights")
    parser.add_argument("--model", nargs="*", default=[], help="trained networks, such as data/train/model")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--tokens", type=int, default=100, help="new tokens; with the prompt of 5 within the context")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU, for both; 0 = all cores")
    args = parser.parse_args()
    machine.keep_freed_memory()
    device, threads = machine.pick_device(args.device), machine.set_threads(args.threads)
    torch.manual_seed(0)
    nets = {name: GPT2(GPT2Config(**SHAPES[name], block_size=CONTEXT, position="sinusoidal")).eval() for name in args.shapes}
    nets |= {folder: hf.load(folder) for folder in args.model}
    what = torch.cuda.get_device_name() if device == "cuda" else f"{machine.cpu_name()}, {pluralize(threads, 'thread')}"
    print(f"\nGeneration on {what}, PyTorch {torch.__version__}\n")
    head = ["network", "batch", "tokens are", "ours, tokens/s", "transformers, tokens/s", "ratio (of rounds)"]
    rows = [row for name, net in nets.items() for row in compare(name, net.to(device), args.batch, args.tokens, args.rounds)]
    print(files.markdown_table(head, rows, "lrlrrl"))


if __name__ == "__main__":
    main()
