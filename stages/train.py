"""Train the network: data/train/ gets the model as a Hugging Face folder, the loss curves and metrics.json.

An interrupted training goes on where it stopped when the stage is started again, and ends with the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

from model import GPT2, GPT2Config, generate, hf
from stages.common import command, files, session
from stages.common.params import ModelParams, Params, TrainParams, load_params
from stages.common.terminal import counted
from stages.compute import machine
from stages.corpus import tokenizer
from stages.corpus.tokens import TokenFile
from stages.training import distributed, identity, live_run, model_card, signals, trainer
from stages.training.checkpoint import Checkpoints

TOKENS, FOLDER = Path("data/tokenize"), Path("data/train")
SUMMARY = Path("data/track/summary.md")  # track's output, the only one that another stage removes (dvc.yaml says so)
SAMPLES, SAMPLE_TOKENS = 2, 80  # texts before the first step and at each evaluation, to watch them improve


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Check every input, train (or go on training), write the outputs, forget the checkpoints; return the facts for `track`."""
    params, recorded = load_params(TrainParams), load_params(Params).model_dump()  # the run is recorded with all of them
    distributed.launch(params.launcher)
    machine.keep_freed_memory()
    meta = files.read_json(TOKENS / "meta.json", "tokenize", "vocab_size", "end_of_text")
    train, validation = TokenFile.open(TOKENS, "train"), TokenFile.open(TOKENS, "validation")
    codec = tokenizer.load(TOKENS / "tokenizer.json")
    device, threads = machine.pick_device(params.device), machine.set_threads(params.threads)
    precision = machine.pick_precision(params.precision, device)
    if device.startswith("cuda"):
        machine.prefer_exact_cuda()
    with distributed.join(device) as us:
        facts = identity.machine_facts(device, precision, threads, us.size)
        net = make_net(params, meta["vocab_size"]).to(device)
        tags = {f"machine.{key}": value for key, value in facts.items()}
        folder = session.root() / ".checkpoints" / identity.training_key(params, TOKENS, facts)
        with (
            Checkpoints(folder, writes=us.main) as checkpoints,
            live_run.training_run(recorded, tags, not args.no_log) as run,
            signals.stop_on_signals() as stop,
        ):
            us.wait()  # rank 0 holds the lock: the others may read
            SUMMARY.unlink(missing_ok=True)  # a run has begun: DVC is to run `track`, even if the same bytes come out

            def write_samples(step: int, net: GPT2) -> list[str]:
                texts = samples(net, codec)
                run.samples(step, texts)
                return texts

            loop = trainer.Trainer(
                params, net, train.stream, validation.stream, precision, us, checkpoints, run.log, write_samples
            )
            if us.main:
                print(describe(net, loop, facts))
            limit = machine.matrix_limit(device, precision) if device.startswith("cuda") else None
            begin = time.perf_counter()
            try:
                loop.fit(stop)
            except trainer.Stopped as signal:
                at = f"stopped ({signal}) after step {loop.step} of {loop.steps}"
                print(f"{at}; saved. Run `dvc repro` to go on", file=sys.stderr)
                raise KeyboardInterrupt from None
            seconds = time.perf_counter() - begin
            speed = (loop.tokens - loop.resumed) / seconds
            use = {} if limit is None else gpu_use(net.config, speed / us.size, limit)
            if use:
                run.log(loop.steps, use)
            net = distributed.whole_network(net)
        if us.main:
            write(params, net, loop, meta)
            checkpoints.remove()
            print(summary(loop, seconds, speed, use))
    return {"params": recorded, "facts": tags}


def make_net(params: TrainParams, vocab_size: int) -> GPT2:
    """The network with its first weights, which depend on `seed` alone."""
    torch.manual_seed(params.seed)
    shape = params.model_dump(include=set(ModelParams.model_fields))
    return GPT2(GPT2Config(vocab_size=vocab_size, **shape))


@torch.no_grad()
@machine.any_kernel()
def samples(net: GPT2, codec: tokenizer.Tokenizer) -> list[str]:
    """A few stories from the network as it is now, always with the same random numbers, none of them the training's."""
    net.eval()
    start = torch.full((SAMPLES, 1), codec.end_of_text, device=net.wte.weight.device)
    generators = [torch.Generator().manual_seed(row) for row in range(SAMPLES)]
    rows = generate(net, start, SAMPLE_TOKENS, generator=generators, stop=codec.end_of_text)
    net.train()
    return [codec.decode(row[1:].tolist()) for row in rows]


def describe(net: GPT2, loop: trainer.Trainer, facts: dict[str, str]) -> str:
    """What is about to be trained, on what."""
    shape, where = net.config, facts["gpu"] or facts["cpu"]
    return (
        f"{counted(shape.n_layer, 'layer')} x {counted(shape.n_head, 'head')} x {shape.n_embd // shape.n_head}, "
        f"context {shape.block_size}, vocabulary {shape.vocab_size:,}: {shape.parameters:,} parameters\n"
        f"{loop.batches.targets:,} tokens, {counted(loop.steps_per_epoch, 'step')} per epoch, {loop.steps:,} in all\n"
        f"{facts['device']} ({where}), {facts['precision']}, {counted(int(facts['threads']), 'thread')}, "
        f"{counted(int(facts['processes']), 'process', 'processes')}{', compiled' if loop.compiled else ''}"
    )


def gpu_use(config: GPT2Config, speed: float, limit: float) -> dict[str, float]:
    """The share of each GPU's measured `limit` (FLOP/s of matrix products) at `speed` tokens/s, and its peak memory."""
    share = config.flops_per_token(config.block_size) * speed / limit
    return {"matrix_limit_share": share, "peak_gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30}


def summary(loop: trainer.Trainer, seconds: float, speed: float, use: dict[str, float]) -> str:
    """What was trained, how well and how fast."""
    last, skipped = loop.history.epochs[-1], loop.history.skipped
    text = (
        f"trained to step {loop.steps:,} in {seconds / 60:.1f} minutes ({speed:,.0f} tokens/s): "
        f"train loss {last['train_loss']:.4f}, validation loss {last['val_loss']:.4f} nats/token"
    )
    if use:
        text += f"\n{use['matrix_limit_share']:.0%} of the GPU's measured limit, {use['peak_gpu_memory_gib']:.1f} GiB of memory"
    return text + (f"\nsteps skipped because their gradients were too large for fp16: {skipped:,}" if skipped else "")


def write(params: TrainParams, net: GPT2, loop: trainer.Trainer, meta: dict[str, Any]) -> None:
    """The stage's outputs; nothing in them depends on when or how fast they were made."""
    sizes = {"steps": loop.steps, "tokens": loop.tokens, "parameters": net.config.parameters}
    metrics = {key: loop.history.epochs[-1][key] for key in ("train_loss", "val_loss")} | sizes
    hf.save(net, FOLDER / "model", end_of_text=meta["end_of_text"])
    tokenizer.save_for_transformers(TOKENS / "tokenizer.json", FOLDER / "model", params.block_size)
    model_card.write_card(FOLDER / "model", net.config, meta, metrics, identity.training_params(params))
    loop.history.write(FOLDER)
    files.write_json(FOLDER / "metrics.json", metrics)


if __name__ == "__main__":
    command.run(main, __doc__, lambda p: p.add_argument("--no-log", action="store_true", help="train without MLflow"))
