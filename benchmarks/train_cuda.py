"""Speed of training on a GPU: our network and step against transformers' GPT2LMHeadModel, all in turns in one process.

    python -m benchmarks.train --device cuda [--sizes small small-1024 default] [--rounds 20]

Each side takes ten steps at a time, and the device is waited for once per turn. Ours is the step of the stage `train`, with its
reader thread and its exact kernels. Theirs may use any kernel, has its batches on the GPU already, and does not read its
losses. Both have the same precision and PyTorch's fused AdamW. Prints two Markdown tables; a side that fails is a dash in both.
"""

from __future__ import annotations

import gc
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model import GPT2, GPT2Config
from stages.common.params import parse_params, read_yaml
from stages.compute import machine
from stages.compute.machine import DTYPES
from stages.training.batches import Batches, validation_windows
from stages.training.captured_step import CapturedStep, make_step
from stages.training.checkpoint import Checkpoints
from stages.training.distributed import World
from stages.training.live_run import LiveRun
from stages.training.schedule import Schedule
from stages.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
STEPS = 10  # of a turn
BATCHES = 200  # different ones; then they come again
LAUNCH = re.compile(r"(cuda|cu)(Launch\w*Kernel\w*|GraphLaunch)")
WAIT = re.compile(r"(cuda|cu)((Stream|Device|Ctx|Event)Synchronize|Memcpy(2D|HtoD|DtoH)?)")  # cudaMemcpyAsync does not wait
VERSION = re.compile(r"(_v\d+|_ptsz|_ptds)+$")  # which the profiler may leave at the name of a CUDA function

Run = Callable[[int], None]  # takes this many steps; the device may still be at work when it returns


@dataclass(frozen=True)
class Shape:
    """A network and its batch: `batch` rows of `context` tokens."""

    layers: int
    heads: int
    width: int
    vocabulary: int
    batch: int
    context: int

    def __str__(self) -> str:
        return f"{self.layers}/{self.heads}/{self.width}, {self.vocabulary:,}, {self.batch} x {self.context}"

    @property
    def flops(self) -> int:
        """Multiplications and additions of one step."""
        config = GPT2Config(self.vocabulary, self.context, self.layers, self.heads, self.width)
        return config.flops_per_token(self.context) * self.batch * self.context


SHAPES = {
    "small": Shape(12, 12, 768, 50_257, 8, 128),  # the original experiment
    "small-1024": Shape(12, 12, 768, 50_257, 32, 1024),
    "default": Shape(12, 12, 96, 2_517, 8, 128),
}


def ours(shape: Shape, device: str, precision: str, compiled: bool) -> Run:
    """The Trainer of the stage `train` on random tokens.

    Raises:
        RuntimeError: on a GPU, the step could not be captured.
    """
    committed = read_yaml((ROOT / "params.yaml").read_text(encoding="utf-8"))
    sizes = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width}
    batches = {"block_size": shape.context, "stride": shape.context, "batch_size": shape.batch, "grad_accumulation": 1}
    params = parse_params(committed | sizes | batches | {"compile": compiled, "optimizer": "adamw", "dropout": 0.0})
    length = BATCHES * shape.batch * shape.context + 1
    tokens = np.random.default_rng(0).integers(0, shape.vocabulary, length, dtype=np.uint16)
    torch.manual_seed(0)
    config = GPT2Config(shape.vocabulary, shape.context, shape.layers, shape.heads, shape.width, position="sinusoidal")
    net = GPT2(config).to(device)
    unsaved = Checkpoints(Path("unused"), writes=False)
    batched = Batches.of(params, tokens, padded=device.startswith("cuda"))
    schedule = Schedule.of(params, batched.steps_per_epoch)
    step = make_step(params, net, precision, World(), schedule.steps)
    windows = validation_windows(tokens[: shape.context + 1], shape.context)
    trainer = Trainer(step, batched, schedule, windows, unsaved, LiveRun(None), lambda net: [])
    net.train()
    reader = ThreadPoolExecutor(1)
    ahead = reader.submit(trainer.read, trainer.step)

    def run(steps: int) -> None:
        nonlocal ahead
        for _ in range(steps):
            batch = ahead.result()
            ahead = reader.submit(trainer.read, trainer.step + 1)
            trainer.take_step(batch)
        trainer.flush_metrics()  # as training does every few steps
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
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0  # as ours: no dropout
    net = GPT2LMHeadModel(config).to(device)
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
    batches = torch.randint(0, shape.vocabulary, (BATCHES, shape.batch, shape.context + 1), device=device)
    count = 0

    def mean_loss(tokens: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(net(input_ids=tokens).logits.flatten(0, 1), targets.flatten())

    loss_of = torch.compile(mean_loss, dynamic=False) if compiled else mean_loss

    @any_kernel()
    def run(steps: int) -> None:
        nonlocal count
        for _ in range(steps):
            batch = batches[count % len(batches)]
            count += 1
            with torch.autocast(device, DTYPES[precision], enabled=precision != "fp32"):
                loss = loss_of(batch[:, :-1], batch[:, 1:])
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    return run


SIDES: dict[str, Callable[[Shape, str, str], Run]] = {
    "ours, compiled": partial(ours, compiled=True),
    "ours, uncompiled": partial(ours, compiled=False),
    "theirs, eager": partial(theirs, compiled=False),
    "theirs, compiled": partial(theirs, compiled=True),
}
BASES = ("theirs, eager", "theirs, compiled")  # what the ratios compare with


@contextmanager
def any_kernel() -> Iterator[None]:
    """Within it, all that `machine.prefer_exact_cuda` switched off is allowed again, for the fastest of theirs."""
    from torch._inductor import config

    cuda = torch.backends.cuda
    before = cuda.cudnn_sdp_enabled(), cuda.mem_efficient_sdp_enabled()
    try:
        cuda.enable_cudnn_sdp(True)
        cuda.enable_mem_efficient_sdp(True)
        # `deterministic` is not in every version of PyTorch
        with machine.any_kernel(), config.patch({"deterministic": False} if hasattr(config, "deterministic") else {}):
            yield
    finally:
        cuda.enable_cudnn_sdp(before[0])
        cuda.enable_mem_efficient_sdp(before[1])


def prepare(shape: Shape, device: str, precision: str, steps: int = STEPS) -> tuple[dict[str, Run], dict[str, float]]:
    """Make the sides and let each take its first steps, in which what is compiled or captured is made.

    Returns:
        the sides that work, and the most GPU memory that each had in use at once, in bytes.
    """
    sides: dict[str, Run] = {}
    peaks: dict[str, float] = {}
    for name, make in SIDES.items():
        tidy(device)
        before = _memory(device, peak=False)
        try:
            run = make(shape, device, precision)
            for _ in range(2):
                run(steps)
            wait(device)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            print(f"{name} at {shape}: failed ({reason[:200]})", file=sys.stderr)
            continue
        sides[name], peaks[name] = run, _memory(device, peak=True) - before
    return sides, peaks


def measure(sides: dict[str, Run], device: str, rounds: int, steps: int = STEPS) -> dict[str, list[float]]:
    """Seconds per step of each side, one number per round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            run(steps)
            wait(device)
            times[name].append((time.perf_counter() - start) / steps)
    return times


def speed_rows(shape: Shape, times: dict[str, list[float]], peaks: dict[str, float], limit: float) -> list[str]:
    """The table's rows of one shape.

    Args:
        shape: of the network and the batch.
        times: see `measure`.
        peaks: see `prepare`.
        limit: FLOP/s of plain matrix products, see `machine.matrix_limit`.
    """
    rows = []
    for name in SIDES:
        if name not in times:
            rows.append(f"| {shape} | {name} " + "| – " * 6 + "|")
            continue
        seconds = statistics.median(times[name])
        ratios = [_ratio(times.get(other), times[name]) for other in BASES]
        rows.append(
            f"| {shape} | {name} | {shape.batch * shape.context / seconds:,.0f} | {seconds * 1000:.2f} | {' | '.join(ratios)} "
            f"| {peaks[name] / 2**30:.2f} | {shape.flops / seconds / limit:.0%} |"
        )
    return rows


def calls(run: Run, device: str, steps: int = STEPS) -> tuple[float, float]:
    """Kernel launches (a graph's is one) and waits for the device that the CPU makes in each step.

    Twice as many steps are compared with as many, so that what a turn costs once does not count: the wait at its end, and
    the profiler's own.
    """
    once, twice = (_calls(run, device, count) for count in (steps, 2 * steps))
    return (twice[0] - once[0]) / steps, (twice[1] - once[1]) / steps


def _calls(run: Run, device: str, steps: int) -> tuple[int, int]:
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        run(steps)
        wait(device)
    return count_calls((event.key, event.count) for event in profile.key_averages())


def count_calls(events: Iterable[tuple[str, int]]) -> tuple[int, int]:
    """Launches and waits among the profiler's names and their counts."""
    launches = waits = 0
    for name, count in events:
        plain = VERSION.sub("", name)
        launches += count if LAUNCH.fullmatch(plain) else 0
        waits += count if WAIT.fullmatch(plain) else 0
    return launches, waits


def call_rows(shape: Shape, sides: dict[str, Run], device: str) -> list[str]:
    """The second table's rows of one shape."""
    rows = []
    for name in SIDES:
        launches, waits = calls(sides[name], device) if name in sides else (0.0, 0.0)
        known = f"{launches:,.1f} | {waits:,.1f}" if launches else "– | –"  # without CUPTI the profiler sees no call at all
        rows.append(f"| {shape} | {name} | {known} |")
    return rows


def wait(device: str) -> None:
    """Until the device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def tidy(device: str) -> None:
    """Give back the memory of what is no longer used."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _memory(device: str, peak: bool) -> float:
    """Bytes of the GPU's memory that are in use, or were at most."""
    if device != "cuda":
        return 0.0
    return float(torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated())


def _ratio(others: list[float] | None, own: list[float]) -> str:
    """How many times as fast the own side is, round by round."""
    if others is None or others is own:
        return "–" if others is None else "1"
    ratios = [other / mine for other, mine in zip(others, own, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main(names: list[str], rounds: int) -> None:
    """Print both tables.

    Raises:
        UserError: there is no GPU.
    """
    device = machine.pick_device("cuda")
    precision = machine.pick_precision("auto", device)
    machine.prefer_exact_cuda()
    # the profiler is used more than once beside CUDA graphs, which its tear-down does not survive
    os.environ.update(DISABLE_CUPTI_LAZY_REINIT="1", TEARDOWN_CUPTI="0")
    limit = machine.matrix_limit(device, precision)
    print(f"\nTraining on one {torch.cuda.get_device_name()}, PyTorch {torch.__version__}, {precision}")
    print(f"(limit of its matrix products: {limit / 1e12:,.0f} TFLOP/s)\n")
    print(
        "| layers/heads/width, vocabulary, batch | side | tokens/s | ms per step | times theirs, eager (of rounds) "
        "| times theirs, compiled | peak GPU memory, GiB | of the limit |"
    )
    print("|---|---|---:|---:|---|---|---:|---:|")
    for name in names:
        sides, peaks = prepare(SHAPES[name], device, precision)
        print("\n".join(speed_rows(SHAPES[name], measure(sides, device, rounds), peaks, limit)), flush=True)
        del sides
        torch.compiler.reset()
    print("\n| layers/heads/width, vocabulary, batch | side | kernel launches per step | waits for the GPU per step |")
    print("|---|---|---:|---:|")
    for name in names:  # at the end, because the profiler may slow down all that comes after it
        sides, _ = prepare(SHAPES[name], device, precision)
        print("\n".join(call_rows(SHAPES[name], sides, device)), flush=True)
        del sides
        torch.compiler.reset()
