"""Speed of training: the step of the stage `train` against transformers' GPT2LMHeadModel with AdamW, in turns in one run.

    python -m benchmarks.train [--device cuda] [--precision fp32] [--shapes small default] [--sides ours transformers]
                               [--rounds 5] [--seconds 4]

Shape, batch, random tokens and precision (theirs by autocast) are the same for all sides, and none has dropout. On a CPU theirs
has PyTorch's default AdamW, as in its documentation; on a GPU the fused AdamW and any kernel, while ours keeps to kernels that
give the same bits each time. Prints Markdown; a side that fails is left out, and says why.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import harness
from model import GPT2, GPT2Config
from stages.common import files
from stages.common.errors import UserError
from stages.common.params import parse_params, read_yaml
from stages.compute import machine
from stages.compute.machine import DTYPES
from stages.training.batches import Batches, validation_windows
from stages.training.checkpoint import Checkpoints
from stages.training.distributed import World
from stages.training.live_run import LiveRun
from stages.training.schedule import Schedule
from stages.training.step import CapturedStep, make_step
from stages.training.trainer import Trainer

BATCHES = 200  # different ones; then they come again
Run = Callable[[int], None]  # takes this many steps; a GPU may still be at work when it returns


@dataclass(frozen=True)
class Shape:
    """A network and its batch: `batch` rows of `context` tokens."""

    layers: int
    heads: int
    width: int
    vocabulary: int
    batch: int = 8
    context: int = 128

    def __str__(self) -> str:
        return f"{self.layers}/{self.heads}/{self.width}, {self.vocabulary:,}, {self.batch} x {self.context}"

    @property
    def tokens(self) -> int:
        """Targets of a step."""
        return self.batch * self.context

    @property
    def flops(self) -> int:
        """Multiplications and additions of a step."""
        config = GPT2Config(self.vocabulary, self.context, self.layers, self.heads, self.width)
        return config.flops_per_token(self.context) * self.tokens


SHAPES = {
    "tiny": Shape(4, 4, 128, 50_257),
    "mid": Shape(6, 6, 384, 50_257),
    "small": Shape(12, 12, 768, 50_257),  # the original experiment
    "small-1024": Shape(12, 12, 768, 50_257, batch=32, context=1024),
    "default": Shape(12, 12, 96, 2_517),
}


def ours(shape: Shape, device: str, precision: str, compiled: bool) -> Run:
    """The Trainer of the stage `train`, with its reader thread, on random tokens.

    Raises:
        RuntimeError: on a GPU, the step could not be captured.
    """
    machine.keep_freed_memory()
    machine.set_threads(0)
    if device == "cuda":
        machine.prefer_exact_cuda()
    committed = read_yaml((harness.ROOT / "params.yaml").read_text(encoding="utf-8"))
    sizes = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width, "dropout": 0.0}
    batches = {"block_size": shape.context, "stride": shape.context, "batch_size": shape.batch, "grad_accumulation": 1}
    params = parse_params(committed | sizes | batches | {"compile": compiled, "optimizer": "adamw"})
    length = BATCHES * shape.tokens + 1
    tokens = np.random.default_rng(0).integers(0, shape.vocabulary, length, dtype=np.uint16)
    torch.manual_seed(0)
    config = GPT2Config(shape.vocabulary, shape.context, shape.layers, shape.heads, shape.width, position="sinusoidal")
    net = GPT2(config).to(device)
    unsaved = Checkpoints(Path("unused"), writes=False)
    windows = Batches.of(params, tokens, padded=device == "cuda")
    schedule = Schedule.of(params, windows.steps_per_epoch)
    step = make_step(params, net, precision, World(), schedule.steps)
    validation = validation_windows(tokens[: shape.context + 1], shape.context)
    trainer = Trainer(step, windows, schedule, validation, unsaved, LiveRun(None), lambda net: [])
    net.train()
    reader = ThreadPoolExecutor(1)
    ahead = reader.submit(trainer.read, trainer.step)

    def run(steps: int) -> None:
        nonlocal ahead
        for _ in range(steps):
            batch = ahead.result()
            ahead = reader.submit(trainer.read, trainer.step + 1)
            trainer.take_step(batch)
        trainer.flush_metrics()  # as training does after each step on a CPU, after several on a GPU
        if isinstance(step, CapturedStep) and step.failed:
            raise RuntimeError("the step was not captured")

    return run


def theirs(shape: Shape, device: str, precision: str, compiled: bool) -> Run:
    """transformers' model in the training loop of its documentation; `compiled` together with its loss."""
    from transformers import GPT2Config as TheirConfig
    from transformers import GPT2LMHeadModel

    torch.manual_seed(0)
    config = TheirConfig(
        bos_token_id=None,
        eos_token_id=None,
        vocab_size=shape.vocabulary,
        n_positions=shape.context,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.width,
        use_cache=False,
    )
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    net = GPT2LMHeadModel(config).to(device)

    def mean_loss(tokens: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(net(input_ids=tokens).logits.flatten(0, 1), targets.flatten())

    return _usual_loop(net, mean_loss, shape, device, precision, compiled)


def nanogpt(shape: Shape, device: str, precision: str) -> Run:
    """nanoGPT's model, compiled as it is by default, from a clone of its repository, whose folder is NANOGPT."""
    spec = importlib.util.spec_from_file_location("nanogpt", Path(os.environ["NANOGPT"], "model.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    sizes = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width, "dropout": 0.0, "bias": True}
    net = module.GPT(module.GPTConfig(block_size=shape.context, vocab_size=shape.vocabulary, **sizes)).to(device)
    return _usual_loop(net, lambda tokens, targets: net(tokens, targets)[1], shape, device, precision, compiled=True)


def _usual_loop(
    net: nn.Module, mean_loss: Callable[[Tensor, Tensor], Tensor], shape: Shape, device: str, precision: str, compiled: bool
) -> Run:
    """A loop as people write it: autocast, backward, clipping, AdamW."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=device == "cuda")
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
    batches = torch.randint(0, shape.vocabulary, (BATCHES, shape.batch, shape.context + 1), device=device)
    count = 0
    loss_of = torch.compile(mean_loss, dynamic=False) if compiled else mean_loss

    def run(steps: int) -> None:
        nonlocal count
        for _ in range(steps):
            batch = batches[count % len(batches)]
            count += 1
            with torch.autocast(device, DTYPES[precision], enabled=precision != "fp32"):
                loss = loss_of(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    return run


SIDES: dict[str, Callable[[Shape, str, str], Run]] = {
    "ours": partial(ours, compiled=False),
    "ours, compiled": partial(ours, compiled=True),
    "transformers": partial(theirs, compiled=False),
    "transformers, compiled": partial(theirs, compiled=True),
}
if "NANOGPT" in os.environ:
    SIDES["nanoGPT, compiled"] = nanogpt
USUAL = {  # shapes and sides that are measured unless others are asked for
    "cpu": (["tiny", "mid", "small", "default"], ["ours", "transformers"]),
    "cuda": (["small", "small-1024", "default"], list(SIDES)),
}


def work(side: str, shape: Shape, device: str, precision: str, seconds: float) -> None:
    """Be the worker for one side."""
    run = SIDES[side](shape, device, precision)

    def run_to_the_end(steps: int) -> None:
        run(steps)
        if device == "cuda":
            torch.cuda.synchronize()

    def peak() -> float:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return float(torch.cuda.max_memory_allocated() if device == "cuda" else own)

    harness.serve(run_to_the_end, 10 if device == "cuda" else 1, seconds, peak)


def seconds_at_the_limit(shape: Shape, device: str, precision: str) -> float:
    """Seconds of a step if it were matrix products alone: those of the faster of an MLP's two shapes, the best of many."""
    if device == "cuda":
        return shape.flops / machine.matrix_limit(device, precision)
    best = 0.0
    for inner, outer in ((shape.width, 4 * shape.width), (4 * shape.width, shape.width)):
        a, b = (torch.randn(rows, inner).to(DTYPES[precision]) for rows in (shape.tokens, outer))
        for _ in range(50):
            start = time.perf_counter()
            F.linear(a, b)
            best = max(best, 2 * a.numel() * outer / (time.perf_counter() - start))
    return shape.flops / best


def compare(name: str, sides: list[str], device: str, precision: str, rounds: int, seconds: float) -> list[list[str]]:
    """The table's rows of one shape, one for each side that works."""
    shape, common = SHAPES[name], ["--device", device, "--precision", precision, "--seconds", str(seconds), "--worker"]
    workers = {side: harness.Worker("benchmarks.train", *common, side, name) for side in sides}
    working = {side: worker for side, worker in workers.items() if worker.ready}
    times = harness.take_turns(working | {"limit": partial(seconds_at_the_limit, shape, device, precision)}, rounds)
    limit = min(times.pop("limit"))
    for worker in workers.values():
        worker.close()
    rows = []
    for side, own in times.items():
        median = statistics.median(own)
        ratios = [harness.ratio(times[base], own) if base in times else "–" for base in bases(sides)]
        memory = f"{workers[side].peak / 2**30:.2f}"
        rows.append([str(shape), side, f"{shape.tokens / median:,.0f}", f"{median * 1000:.2f}", *ratios, memory])
        rows[-1].append(f"{limit / median:.0%}")
    return rows


def bases(sides: list[str]) -> list[str]:
    """The sides that the others are compared with."""
    return [side for side in sides if not side.startswith("ours")]


def main() -> None:
    """Print the table, or work for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("auto", *DTYPES), default="auto", help="of all sides")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, metavar="SHAPE", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--sides", nargs="+", choices=SIDES, metavar="SIDE", help=f"of {'; '.join(SIDES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        device = machine.pick_device(args.device)
        precision = machine.pick_precision(args.precision, device)
    except UserError as error:
        sys.exit(f"error: {error}")
    if args.worker:
        side, name = args.worker
        try:
            work(side, SHAPES[name], device, precision, args.seconds)
        except (RuntimeError, ImportError) as error:
            sys.exit(f"{side} at {SHAPES[name]} failed: {str(error).splitlines()[0]}")
        return
    usual_shapes, usual_sides = USUAL[device]
    sides = args.sides or usual_sides
    what = torch.cuda.get_device_name() if device == "cuda" else f"{machine.cpu_name()}, {machine.set_threads(0)} threads"
    print(f"\nTraining on {what}, PyTorch {torch.__version__}, {precision}\n")
    head = ["layers/heads/width, vocabulary, batch", "side", "tokens/s", "ms per step"]
    head += [*(f"times {base} (of rounds)" for base in bases(sides)), "peak memory, GiB", "of the limit"]
    names, settings = args.shapes or usual_shapes, (sides, device, precision, args.rounds, args.seconds)
    rows = [row for name in names for row in compare(name, *settings)]
    print(files.markdown_table(head, rows, f"llrr{'l' * len(bases(sides))}rr"))


if __name__ == "__main__":
    main()
