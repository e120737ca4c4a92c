"""Speed of training: our network and step against transformers' GPT2LMHeadModel with AdamW, in turns in one run.

    python -m benchmarks.train [--sizes tiny mid small default] [--rounds 5] [--seconds 4]
    python -m benchmarks.train --device cuda [--sizes small small-1024 default] [--rounds 20]     see benchmarks/train_cuda.py

Each side is a process of its own (ours tunes its memory allocator, theirs has the defaults), and the two take turns of a few
seconds while the other waits, so that a busy machine slows both. Same shape, batch and data; theirs is fp32 with PyTorch's
default AdamW, as in its documentation's training loop; ours is the step of the stage `train`. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SIZES = {  # name: layers, heads, width, vocabulary
    "tiny": (4, 4, 128, 50_257),
    "mid": (6, 6, 384, 50_257),
    "small": (12, 12, 768, 50_257),
    "default": (12, 12, 96, 2_600),
}
BLOCK, BATCH = 128, 8
ROOT = Path(__file__).parents[1]


def ours(layers: int, heads: int, width: int, vocabulary: int) -> Callable[[], None]:
    """One step of the stage `train`: the same Trainer, on random tokens."""
    from stages.compute import machine

    machine.keep_freed_memory()
    import numpy as np
    import torch

    from model import GPT2, GPT2Config
    from stages.common.params import parse_params, read_yaml
    from stages.training.batches import Batches, validation_windows
    from stages.training.captured_step import make_step
    from stages.training.checkpoint import Checkpoints
    from stages.training.distributed import World
    from stages.training.live_run import LiveRun
    from stages.training.schedule import Schedule
    from stages.training.trainer import Trainer

    threads = machine.set_threads(0)
    committed = read_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params = parse_params(committed | {"n_layer": layers, "n_head": heads, "n_embd": width})
    tokens = np.random.default_rng(0).integers(0, vocabulary, 200 * BLOCK * BATCH + 1, dtype=np.uint16)
    torch.manual_seed(0)
    net = GPT2(GPT2Config(vocabulary, BLOCK, layers, heads, width, position="sinusoidal"))
    precision = machine.pick_precision("auto", "cpu")
    batches = Batches.of(params, tokens)
    schedule = Schedule.of(params, batches.steps_per_epoch)
    taken = make_step(params, net, precision, World(), schedule.steps)
    unsaved = Checkpoints(Path("unused"), writes=False)
    trainer = Trainer(
        taken, batches, schedule, validation_windows(tokens[:BLOCK], BLOCK), unsaved, LiveRun(None), lambda net: []
    )
    assert threads == torch.get_num_threads()

    def step() -> None:
        trainer.take_step(trainer.read(trainer.step))
        trainer.pending.clear()

    return step


def theirs(layers: int, heads: int, width: int, vocabulary: int) -> Callable[[], None]:
    """transformers' model in the training loop of its documentation."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        bos_token_id=None,
        eos_token_id=None,
        vocab_size=vocabulary,
        n_positions=BLOCK,
        n_layer=layers,
        n_head=heads,
        n_embd=width,
    )
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0  # as ours: no dropout
    net = GPT2LMHeadModel(config)
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
    batches = torch.randint(0, vocabulary, (200, BATCH, BLOCK + 1))  # as ours: BLOCK targets a row
    count = 0

    def step() -> None:
        nonlocal count
        batch = batches[count % len(batches)]
        count += 1
        logits = net(input_ids=batch[:, :-1]).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def limits(width: int) -> dict[str, float]:
    """GFLOP/s of plain matrix products, by dtype: the best of many, of the larger of an MLP's two shapes.

    Measured between the turns, while both sides wait: beside either of them it would be too low.
    """
    import torch

    best = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for inner, outer in ((width, 4 * width), (4 * width, width)):
            a, b = torch.randn(BATCH * BLOCK, inner).to(dtype), torch.randn(outer, inner).to(dtype)
            for _ in range(50):
                start = time.perf_counter()
                torch.nn.functional.linear(a, b)
                rate = 2 * a.numel() * outer / (time.perf_counter() - start) / 1e9
                best[name] = max(best.get(name, 0.0), rate)
    return best


def work(side: str, size: str, seconds: float) -> None:
    """A worker: a turn of a few seconds for each line on standard input, its step times as JSON on standard output."""
    step = {"ours": ours, "theirs": theirs}[side](*SIZES[size])
    for _ in range(2):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        times: list[float] = []
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        print(json.dumps({"times": times, "peak": peak}), flush=True)


def compare(size: str, rounds: int, seconds: float) -> str:
    """One row of the table."""
    from model import GPT2Config
    from stages.compute import machine

    layers, heads, width, vocabulary = SIZES[size]
    command = [sys.executable, "-m", "benchmarks.train", "--seconds", str(seconds), "--worker"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    workers = {side: subprocess.Popen([*command, side, size], **pipes) for side in ("ours", "theirs")}
    for worker in workers.values():
        assert worker.stdout.readline() == "ready\n"
    found: list[dict[str, float]] = []
    times: dict[str, list[float]] = {side: [] for side in workers}
    peaks, ratios = {}, []
    for _ in range(rounds):
        turn = {}
        for side, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            turn[side], peaks[side] = statistics.median(answer["times"]), answer["peak"]
            times[side] += answer["times"]
        ratios.append(turn["theirs"] / turn["ours"])
        found.append(limits(width))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    tokens = BATCH * BLOCK
    rate = {side: tokens / statistics.median(each) for side, each in times.items()}
    flops = GPT2Config(vocabulary, BLOCK, layers, heads, width).flops_per_token(BLOCK) * tokens / min(times["ours"]) / 1e9
    precision = machine.pick_precision("auto", "cpu")  # ours
    limit = max(each[precision] for each in found)
    return (
        f"| {layers}L/{heads}H/{width}, {vocabulary:,} | {rate['ours']:,.0f} | {rate['theirs']:,.0f} "
        f"| **{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f}) | {peaks['ours']:,.0f} "
        f"| {peaks['theirs']:,.0f} | {flops:,.0f} of {limit:,.0f} {precision} ({flops / limit:.0%}) |"
    )


def main() -> None:
    """Print the table, or work for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sizes", nargs="+", metavar="SIZE", help="default: all")
    parser.add_argument("--rounds", type=int, help="default: 5 on the CPU, 20 on a GPU")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn, on the CPU")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(*args.worker, args.seconds)
        return
    if args.device == "cuda":
        from benchmarks import train_cuda
        from stages.common.errors import UserError

        sizes = _chosen(parser, args.sizes, train_cuda.SHAPES)
        try:
            train_cuda.main(sizes, args.rounds or 20)
        except UserError as error:
            sys.exit(f"error: {error}")
        return
    from stages.compute import machine

    sizes = _chosen(parser, args.sizes, SIZES)
    print(f"\nTraining, context {BLOCK}, batch {BATCH}, on {machine.cpu_name()}, {machine.set_threads(0)} threads\n")
    print("| shape, vocabulary | ours, tokens/s | transformers | ratio (of rounds) | ours, peak MB | theirs | GFLOP/s |")
    print("|---|---:|---:|---|---:|---:|---|")
    for size in sizes:
        print(compare(size, args.rounds or 5, args.seconds), flush=True)


def _chosen(parser: argparse.ArgumentParser, asked: list[str] | None, known: Iterable[str]) -> list[str]:
    """The sizes to measure; an unknown one ends the program."""
    if unknown := [size for size in asked or [] if size not in known]:
        parser.error(f"argument --sizes: {unknown[0]} is not one of {', '.join(known)}")
    return asked or list(known)


if __name__ == "__main__":
    main()
