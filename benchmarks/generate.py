"""Speed of writing: our `generate` against transformers' (same weights, fp32, KV cache), and the memory's limit.

    python -m benchmarks.generate [--shape tiny default small] [--model FOLDER] [--batch 1 5] [--tokens 100] [--rounds 5]
                                  [--device cuda] [--threads 1] [--cpu-time]

The two write in turns in one process, so that a busy machine slows both: speeds are those of the median round, the ratio is
the median of each round's own. On a machine that is never quiet, `--threads 1 --cpu-time` counts this process's time on the
processor instead of the clock's (waiting threads count as busy, so with one thread only); a short run is
`--shape default --rounds 3 --tokens 50`. Where our head is read in
float16, what that changes is measured against float32 on text that the network writes itself. Prints Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model import GPT2, GPT2Config, generate, hf
from model.decoder_head import logits_of
from stages.compute import machine

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"vocab_size": 50_257, "n_layer": 4, "n_head": 4, "n_embd": 128},
    "default": {"vocab_size": 2_517, "n_layer": 12, "n_head": 12, "n_embd": 96},
    "small": {"vocab_size": 50_257, "n_layer": 12, "n_head": 12, "n_embd": 768},
}
CONTEXT, PROMPT = 128, 5  # tokens
Clock = Callable[[], float]
Writer = Callable[[Tensor, int, bool], Tensor]  # (prompt, new tokens, whether to sample) -> all tokens


def ours(net: GPT2) -> Writer:
    """Our loop; it draws from the whole distribution."""
    return lambda prompt, count, sample: generate(net, prompt, count, temperature=1.0 if sample else 0.0)


def theirs(net: GPT2) -> Writer:
    """transformers' loop with the same weights; `top_k=0`: the whole distribution too."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        hf.save(net, folder)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder).to(net.wte.weight.device)

    def write(prompt: Tensor, count: int, sample: bool) -> Tensor:
        mask = torch.ones_like(prompt)
        tokens: Tensor = model.generate(
            prompt, attention_mask=mask, max_new_tokens=count, do_sample=sample, top_k=0, use_cache=True, pad_token_id=0
        )
        return tokens

    return write


def seconds(writer: Writer, prompt: Tensor, count: int, sample: bool, clock: Clock) -> float:
    """How long writing takes."""
    start = clock()
    tokens = writer(prompt, count, sample).cpu()  # a GPU is done only then
    taken = clock() - start
    assert tokens.shape == (prompt.size(0), PROMPT + count)
    return taken


def read_rate(device: str) -> float:
    """Bytes per second that the device, or all threads together, read from memory: the best of a few sums of 1 GiB."""
    block = torch.ones(1 << 28, device=device)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        float(block.sum())
        times.append(time.perf_counter() - start)
    return block.numel() * block.element_size() / min(times)


def compare(name: str, net: GPT2, batches: list[int], count: int, rounds: int, rate: float, clock: Clock) -> None:
    """Print one table row for each batch size and way to choose tokens."""
    weights = 4 * net.config.parameters  # bytes that a step reads in float32, whatever the batch
    contestants = {"ours": ours(net), "transformers": theirs(net)}
    for batch in batches:
        prompt = torch.randint(net.config.vocab_size, (batch, PROMPT)).to(net.wte.weight.device)
        for sample in (False, True):
            times: dict[str, list[float]] = {key: [] for key in contestants}
            for turn in range(rounds + 1):  # the first warms up
                for key, writer in contestants.items():
                    taken = seconds(writer, prompt, count, sample, clock)
                    if turn:
                        times[key].append(taken)
            speed = {key: batch * count / statistics.median(taken) for key, taken in times.items()}
            mine, others = speed["ours"], speed["transformers"]
            ratio = statistics.median(b / a for a, b in zip(times["ours"], times["transformers"], strict=True))
            chosen = "sampled" if sample else "greedy"
            limit = batch * rate / weights
            print(
                f"| {name} | {batch} | {chosen} | {mine:,.0f} | {others:,.0f} | {ratio:.2f} | {limit:,.0f} |",
                flush=True,
            )


@torch.inference_mode()
def rounding(net: GPT2, rows: int = 40) -> str:
    """What reading the head in float16 changes, over texts that fill the context."""
    head = logits_of(net)
    if head.half is None:
        return "the head is small and is read in float32"
    text = generate(net, torch.randint(net.config.vocab_size, (rows, 1)).to(net.wte.weight.device), net.config.block_size - 1)
    hidden = net.hidden(text).flatten(0, 1)  # (N, C)
    exact, rough = net.lm_head(hidden), head(hidden)  # (N, V)
    p = exact.log_softmax(-1)
    divergence = float((p.exp() * (p - rough.log_softmax(-1))).sum(-1).mean())
    moved = int((exact.argmax(-1) != rough.argmax(-1)).sum())
    greedy = int((exact.argmax(-1) != head.likeliest(hidden)[1]).sum())
    most = float((exact - rough).abs().max())
    return (
        f"float16 moves a logit by at most {most:.1e} and the distribution by {divergence:.1e} nats (mean KL divergence); "
        f"the likeliest token differs at {moved} of {len(hidden):,} positions, after the check in float32 at {greedy}"
    )


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="*", choices=SHAPES, default=["tiny", "default"], help="random weights")
    parser.add_argument("--model", nargs="*", default=[], help="trained networks, as data/train/model")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--tokens", type=int, default=100, help="new tokens; with the prompt of 5 within the context")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU, for both; 0 = all cores")
    parser.add_argument("--cpu-time", action="store_true", help="count time on the processor; needs --threads 1 and a CPU")
    args = parser.parse_args()
    if args.cpu_time and (args.threads != 1 or args.device != "cpu"):
        parser.error(
            "--cpu-time needs --threads 1 and --device cpu: waiting threads count as busy, a GPU's work does not count"
        )
    clock = time.process_time if args.cpu_time else time.perf_counter
    machine.keep_freed_memory()
    threads = machine.set_threads(args.threads)
    torch.manual_seed(0)
    nets = {name: GPT2(GPT2Config(**SHAPES[name], block_size=CONTEXT, position="sinusoidal")).eval() for name in args.shape}
    nets |= {folder: hf.load(folder) for folder in args.model}
    device = machine.pick_device(args.device)
    nets = {name: net.to(device) for name, net in nets.items()}
    rate = read_rate(device)
    name = torch.cuda.get_device_name() if device.startswith("cuda") else f"{machine.cpu_name()}, {threads} threads"
    print(f"{name}, torch {torch.__version__}; memory is read at {rate / 1e9:.0f} GB/s\n")
    print("| network | batch | tokens are | ours, tokens/s | transformers, tokens/s | ratio | memory's limit, tokens/s |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for name, net in nets.items():
        compare(name, net, args.batch, args.tokens, args.rounds, rate, clock)
    print("\nThe limit: all weights read from memory once a step, in float32. Weights that stay in a cache can beat it.\n")
    for name, net in nets.items():
        print(f"- {name}: {rounding(net)}")


if __name__ == "__main__":
    main()
