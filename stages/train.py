"""Train the network: data/train/ gets the model as a Hugging Face folder, the loss curves and metrics.json.

An interrupted training resumes where it stopped when the stage is started again, and ends with the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model import GPT2, GPT2Config, generate, hf
from stages.common import command, files, inputs, session
from stages.common.params import ModelParams, Params, TrainParams, load_params
from stages.common.terminal import pluralize
from stages.compute import machine, saved_model
from stages.corpus import initial
from stages.corpus.tokenizer import Tokenizer, save_for_transformers
from stages.corpus.tokens import TokenFile
from stages.training import distributed, identity, live_run, model_card, signals
from stages.training.batches import Batches, validation_windows
from stages.training.checkpoint import Checkpoints
from stages.training.history import METRICS
from stages.training.schedule import Schedule
from stages.training.step import make_step
from stages.training.trainer import Stopped, Trainer

TOKENS, FOLDER = Path("data/tokenize"), Path("data/train")
SUMMARY = Path("data/track/summary.md")  # track's output, the only one that another stage removes (dvc.yaml says so)
SAMPLES, SAMPLE_TOKENS = 2, 80  # texts before the first step and at each evaluation, to watch them improve


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Check every input, train (or resume), write the outputs, forget the checkpoints; return the facts for `track`."""
    everything = load_params(Params)  # the run is recorded with all of them
    recorded, params = everything.model_dump(), TrainParams(**everything.model_dump(include=set(TrainParams.model_fields)))
    distributed.relaunch(params.launcher)
    machine.keep_freed_memory()
    keys = ("vocab_size", "end_of_text", "vocabulary", "dataset", "origin", "license")
    meta = files.read_json(TOKENS / "meta.json", "tokenize", *keys)
    if start := initial.read():
        initial.check_shape(start["init_from"], start["shape"], recorded)
    train, validation = TokenFile.open(TOKENS, "train"), TokenFile.open(TOKENS, "validation")
    tokenizer = Tokenizer.load(TOKENS / "tokenizer.json")
    device, threads = machine.pick_device(params.device), machine.set_threads(params.threads)
    precision = machine.pick_precision(params.precision, device)
    if device.startswith("cuda"):
        machine.prefer_exact_cuda()
    with distributed.init_process_group(device) as world:
        facts = identity.machine_facts(device, precision, threads, world.size)
        tags = {f"machine.{key}": value for key, value in facts.items()}
        decisive = identity.training_facts(params, TOKENS, initial.FOLDER, facts)
        folder = session.project_root() / ".checkpoints" / identity.make_key(decisive)
        net = make_net(params, meta["vocab_size"], started=start is not None).to(device)
        with (
            Checkpoints(folder, world.is_main, decisive) as checkpoints,
            live_run.training_run(recorded, tags, not args.no_log) as run,
            signals.stop_on_signals() as stop,
        ):
            world.barrier()  # rank 0 holds the lock: the others may read
            SUMMARY.unlink(missing_ok=True)  # a run has begun: DVC is to run `track`, even if the same bytes come out
            # one shape is recorded or compiled once; elsewhere it would only change how the sums of a small batch are rounded
            batches = Batches.of(params, train.stream, padded=device.startswith("cuda") or params.compile is True)
            schedule = Schedule.of(params, batches.steps_per_epoch, pretrained=start is not None)
            step = make_step(params, net, precision, world, schedule.steps)
            windows = validation_windows(validation.stream, params.block_size)
            texts, best = partial(samples, tokenizer), params.keep == "best"
            trainer = Trainer(step, batches, schedule, windows, checkpoints, run, texts, best)
            if world.is_main:
                print(describe(trainer, facts, start))
            limit = machine.matrix_limit(device, precision) if device.startswith("cuda") else None
            begin = time.perf_counter()
            try:
                trainer.fit(stop)
            except Stopped as signal:
                at = f"stopped ({signal}) after step {trainer.step} of {schedule.steps}"
                print(f"{at}; saved. Run `dvc repro` to resume", file=sys.stderr)
                raise KeyboardInterrupt from None
            seconds = time.perf_counter() - begin
            flops = net.config.flops_per_token(params.block_size) * trainer.trained_here / seconds / world.size
            gpu = {"mfu": flops / limit, "peak_gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30} if limit else {}
            run.log(schedule.steps, gpu)
            signals.end_if_edited(trainer.save, checkpoints.remove, world)
            net = distributed.full_network(net)
            net.load_state_dict(trainer.best, strict=False)  # empty, where the last weights are the result
            if world.is_main:
                write(params, net, trainer, meta, start)
            signals.end_if_edited(trainer.save, checkpoints.remove, world)
        inputs.check()
        if world.is_main:
            checkpoints.remove()
            print(trainer.history.summary(trainer.step, trainer.trained_here, seconds, trainer.keeps_best))
            if gpu:
                print(f"{gpu['mfu']:.0%} of the GPU's measured limit, {gpu['peak_gpu_memory_gib']:.1f} GiB of memory")
    return {"params": recorded, "facts": tags}


def make_net(params: TrainParams, vocab_size: int, started: bool = False) -> GPT2:
    """The network with its first weights, which depend on `seed` alone; `started`: with those in data/download/init."""
    torch.manual_seed(params.seed)
    net = GPT2(GPT2Config(vocab_size=vocab_size, **params.model_dump(include=set(ModelParams.model_fields))))
    if started:
        net.load_state_dict(saved_model.load_initial(initial.FOLDER, net.config).state_dict())
    return net


@machine.any_kernel()
def samples(tokenizer: Tokenizer, net: GPT2) -> list[str]:
    """A few stories from the network as it is now, always with the same random numbers, none of them the training's."""
    start = torch.full((SAMPLES, 1), tokenizer.end_of_text, device=net.wte.weight.device)
    generators = [torch.Generator().manual_seed(row) for row in range(SAMPLES)]
    rows = generate(net, start, SAMPLE_TOKENS, generator=generators, stop=tokenizer.end_of_text)
    return [tokenizer.decode(row[1:].tolist()) for row in rows]


def describe(trainer: Trainer, facts: dict[str, str], start: dict[str, Any] | None) -> str:
    """What is about to be trained, on what, from which weights."""
    shape, batches, schedule = trainer.net.config, trainer.batches, trainer.schedule
    first = start["init_from"] if start else "random (to train a finished network further: -S init_from=data/train/model)"
    return (
        f"{pluralize(shape.n_layer, 'layer')} x {pluralize(shape.n_head, 'head')} x {shape.head_size}, "
        f"context {shape.block_size}, vocabulary {shape.vocab_size:,}: {shape.parameters:,} parameters\n"
        f"{batches.targets:,} tokens, {pluralize(schedule.steps_per_epoch, 'step')} per epoch, {schedule.steps:,} in all\n"
        f"first weights: {first}\n"
        f"{facts['device']} ({facts['gpu'] or facts['cpu']}), {facts['precision']}, "
        f"{pluralize(int(facts['threads']), 'thread')}, "
        f"{pluralize(int(facts['processes']), 'process', 'processes')}{', compiled' if trainer.net.compiled else ''}"
    )


def write(params: TrainParams, net: GPT2, trainer: Trainer, meta: dict[str, Any], start: dict[str, Any] | None) -> None:
    """The stage's outputs; nothing in them depends on when or how fast they were made."""
    sizes = {"steps": trainer.schedule.steps, "tokens": trainer.history.tokens, "parameters": net.config.parameters}
    metrics = trainer.history.losses(trainer.keeps_best) | sizes
    hf.save(net, FOLDER / "model", end_of_text=meta["end_of_text"])
    save_for_transformers(TOKENS / "tokenizer.json", FOLDER / "model", params.block_size)
    card = model_card.text(net.config, meta, metrics, identity.training_params(params), start)
    files.write_text(FOLDER / "model/README.md", card)
    trainer.history.write(FOLDER)
    files.write_metrics(FOLDER / "metrics.json", metrics, METRICS)


if __name__ == "__main__":
    command.run(main, __doc__, lambda p: p.add_argument("--no-log", action="store_true", help="train without MLflow"))
