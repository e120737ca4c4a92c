"""The measurements of the GPU report: each is a function that yields results, and runs in a process of its own.

    python -m benchmarks.gpu_measures NAME [--shapes tiny] [--device cpu] [--data FOLDER]

A result is a line on standard output, `RESULT {"what": ..., "value": ..., "unit": ..., "goal": ..., "met": ...}`.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness, train
from model import GPT2, GPT2Config, generate
from stages.common import files
from stages.compute import machine
from stages.compute.cuda_graph import cuda_graph
from stages.corpus.tokens import TokenFile
from stages.evaluation import scoring
from tools import elsewhere

Row = dict[str, Any]
LIMITS = {  # seconds of each measurement, in the order in which they are taken
    "smoke": 60.0,
    "tests": 120.0,
    "train": 200.0,
    "repro": 150.0,
    "evaluate": 60.0,
    "generate": 60.0,
    "original": 240.0,
    "same-bytes": 120.0,
}
GOALS = {  # an H200's
    "small, ours, compiled": 185_000.0,  # tokens/s
    "small-1024, ours, compiled": 480_000.0,
    "default step": 2.0,  # ms
    "repro": 60.0,  # s
    "evaluate": 500_000.0,  # tokens/s
    "generate": 1_500.0,  # steps/s
    "original": 75.0,  # s
}
TINY = train.Shape(2, 2, 32, 500, batch=2, context=32)
ORIGINAL = {  # as in `make gpt2-small`
    "n_embd": 768,
    "vocabulary": "full",
    "learning_rate": 0.0003,
    "min_learning_rate": "1/5",
    "warmup_steps": 500,
}
WEIGHTS = "data/train/model/model.safetensors"


def result(what: str, value: float | str, unit: str = "", goal: str = "", least: bool = True) -> Row:
    """A result; with a goal it says whether that is met, as a least value or as the most."""
    row: Row = {"what": what, "value": value, "unit": unit}
    if goal and isinstance(value, float):
        limit = GOALS[goal]
        row |= {"goal": f"{'>=' if least else '<='} {limit:,.0f}", "met": value >= limit if least else value <= limit}
    return row


def smoke(args: argparse.Namespace) -> Iterator[Row]:
    """A few steps of a small network; on a GPU they must be captured."""
    run = train.ours(TINY, args.device, machine.pick_precision("auto", args.device), compiled=False)
    run(5)
    yield result("a step is captured" if args.device == "cuda" else "a step is taken", "yes")


def tests(args: argparse.Namespace) -> Iterator[Row]:
    """The tests that need a GPU to themselves; whole trainings are compared below."""
    names = [f"tests/gpu/test_gpu_{name}.py" for name in ("step", "generation", "scoring")]
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", "-rf", *names]
    done = subprocess.run(words, cwd=harness.ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    counts = dict.fromkeys(("passed", "failed", "skipped", "error"), 0) | {
        kind: int(number) for number, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)
    }
    failed = counts["failed"] + counts["error"]
    yield {"what": "tests", "value": ", ".join(f"{count} {kind}" for kind, count in counts.items()), "met": not failed}
    for name in re.findall(r"^FAILED (\S+)", done.stdout, re.MULTILINE):
        yield {"what": name, "value": "failed", "met": False}


def training(args: argparse.Namespace) -> Iterator[Row]:
    """The step at each shape: ours, captured and compiled, and others', each in a process of its own.

    All are started at once, because compiling takes most of the time; they are measured one after the other.
    """
    tiny = args.shapes == "tiny"
    sides = ["ours", "transformers"] if tiny else ["ours", "ours, compiled", "transformers, compiled", "nanoGPT, compiled"]
    shapes = ["tiny"] if tiny else ["small", "small-1024", "default"]
    cases = [(name, side) for name in shapes for side in sides if side in train.SIDES]
    common = ["--device", args.device, "--seconds", "0.2" if tiny else "2", "--worker"]
    with ThreadPoolExecutor(len(cases)) as starter:
        workers = list(starter.map(lambda case: harness.Worker("benchmarks.train", *common, case[1], case[0]), cases))
    for (name, side), worker in zip(cases, workers, strict=True):
        case, shape = f"{name}, {side}", train.SHAPES[name]
        if not worker.ready:
            yield {"what": case, "value": "failed, see train.log", "met": False}
            continue
        seconds = statistics.median(worker() for _ in range(3))
        worker.close()
        yield result(f"{name} ({shape}), {side}", shape.tokens / seconds, "tokens/s", case if case in GOALS else "")
        default = case == "default, ours, compiled"
        yield result(case, 1000 * seconds, "ms per step", "default step" if default else "", least=False)
        yield result(f"{case}, peak memory", worker.peak / 2**30, "GiB")


def _repro(args: argparse.Namespace, changes: dict[str, Any], what: str, goal: str) -> Iterator[Row]:
    """The whole pipeline in a clone, and what came out."""
    with tempfile.TemporaryDirectory() as folder:
        project = elsewhere.clone(Path(folder) / "project")
        tiny = elsewhere.TINY if args.shapes == "tiny" else {}
        elsewhere.set_params(project, changes | tiny | {"device": args.device})
        begin = time.perf_counter()
        elsewhere.dvc(project, "repro", "--force", "--no-run-cache", shown=sys.stderr)
        yield result(f"{what}: `dvc repro`", time.perf_counter() - begin, "s", goal if goal == "repro" else "", least=False)
        for line in (project / ".dvc/tmp").rglob("*stages*.jsonl"):
            stages = [json.loads(row) for row in line.read_text(encoding="utf-8").splitlines()]
            for stage in stages:
                wanted = goal if goal == "original" and stage["stage"] == "train" else ""
                yield result(f"{what}: stage {stage['stage']}", float(stage["seconds"]), "s", wanted, least=False)
        metrics = files.read_json(project / "data/evaluate/metrics.json", "evaluate")
        yield result(f"{what}: perplexity", float(metrics["perplexity"]))


def repro(args: argparse.Namespace) -> Iterator[Row]:
    """The default run."""
    return _repro(args, {}, "default", "repro")


def original(args: argparse.Namespace) -> Iterator[Row]:
    """The original experiment on real stories, where their folder is given."""
    if args.data is None:
        return iter([{"what": "the original experiment", "value": "not measured: give its stories, DATA=FOLDER"}])
    return _repro(args, ORIGINAL | {"dataset": str(args.data.resolve())}, "original", "original")


def network(args: argparse.Namespace, default: bool) -> GPT2:
    """GPT-2 small, or the default, with random weights."""
    shape = TINY if args.shapes == "tiny" else train.SHAPES["default" if default else "small"]
    torch.manual_seed(0)
    config = GPT2Config(shape.vocabulary, shape.context, shape.layers, shape.heads, shape.width, position="sinusoidal")
    return GPT2(config).eval().to(args.device)


def evaluate(args: argparse.Namespace) -> Iterator[Row]:
    """Scoring every token with half a window of context."""
    net = network(args, default=False)
    tokens = 5_000 if args.shapes == "tiny" else 2_000_000
    stream = np.random.default_rng(0).integers(0, net.config.vocab_size, tokens + 1, dtype=np.uint16)
    split = TokenFile(stream, np.arange(1, tokens + 2, 100, dtype=np.int64))
    part = [range(split.stories // 10)]
    scoring.score(net, split, net.config.block_size // 2, part)
    begin = time.perf_counter()
    sums = scoring.score(net, split, net.config.block_size // 2)
    yield result("scoring, GPT-2 small", float(sums.tokens.sum()) / (time.perf_counter() - begin), "tokens/s", "evaluate")


def write(args: argparse.Namespace) -> Iterator[Row]:
    """Writing five texts of 200 tokens at once, more than the context holds."""
    for default in (True, False):
        net = network(args, default)
        start = torch.zeros(5, 5, dtype=torch.int64, device=args.device)
        count = 40 if args.shapes == "tiny" else 200
        times = []
        for _ in range(3):
            record = cuda_graph(start.device) if start.is_cuda else None
            begin = time.perf_counter()
            generate(net, start, count, generator=torch.Generator().manual_seed(0), record=record).cpu()
            times.append(time.perf_counter() - begin)
        name = "default" if default else "GPT-2 small"
        yield result(f"writing, {name}", count / min(times), "steps/s", "generate" if default else "")


def same_bytes(args: argparse.Namespace) -> Iterator[Row]:
    """A small training twice, and once killed and started again."""
    with tempfile.TemporaryDirectory() as folder:
        project = elsewhere.clone(Path(folder) / "project")
        changes = elsewhere.TINY | {"device": args.device, "precision": "auto", "dropout": 0.1, "checkpoint_every": 1}
        elsewhere.set_params(project, changes | {"threads": 1})
        for stage in ("download", "tokenize"):
            subprocess.run(_stage(stage), cwd=project, stdout=sys.stderr, check=True)
        digests = []
        for kill in (False, False, True):
            if kill:
                process = subprocess.Popen(_stage("train", "--no-log"), cwd=project, stdout=sys.stderr)
                while process.poll() is None and not list(project.glob(".checkpoints/*/step-*-*.safetensors")):
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                process.wait()
            subprocess.run(_stage("train", "--no-log"), cwd=project, stdout=sys.stderr, check=True)
            digests.append(files.digest(project / WEIGHTS))
            (project / WEIGHTS).unlink()
    for what, one in (("a training twice", digests[1]), ("a training after kill -9", digests[2])):
        yield {"what": what, "value": "the same bytes" if one == digests[0] else "other bytes", "met": one == digests[0]}


def _stage(name: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"stages.{name}", *words]


MEASURES: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "smoke": smoke,
    "tests": tests,
    "train": training,
    "repro": repro,
    "evaluate": evaluate,
    "generate": write,
    "original": original,
    "same-bytes": same_bytes,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What report and measurements have in common."""
    parser.add_argument("--shapes", choices=("gpu", "tiny"), default="gpu", help="tiny = to try the script itself")
    parser.add_argument("--device", default="auto", help="cuda, or cpu with --shapes tiny")
    parser.add_argument("--data", type=Path, help="folder with the original experiment's stories, train* and validation*")


def main() -> None:
    """Take one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MEASURES)
    add_options(parser)
    args = parser.parse_args()
    machine.keep_freed_memory()
    machine.set_threads(0)
    for row in MEASURES[args.name](args):
        print(f"RESULT {json.dumps(row)}", flush=True)


if __name__ == "__main__":
    main()
