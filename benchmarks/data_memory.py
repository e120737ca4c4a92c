"""Peak memory, time and disk of download, tokenize and train's first steps at several corpus sizes, in a scratch folder.

    python -m benchmarks.data_memory --samples 20000 200000 [--dataset PATH] [--stages download tokenize train]

Peaks are of the stage and its child processes together, sampled every 20 ms. Children that live for less than half a second are
left out, because a process that has just been forked seems to use all its parent's memory again. `own` is the memory that the
kernel calls anonymous (RssAnon and RssShmem in /proc/PID/status): what the processes need. `resident` adds the pages of mapped
files, such as libraries and token files. The kernel can drop those and read them again, so a stage that maps a large file needs
no more memory for it, although its resident set grows while memory is free. Outside Linux both columns are psutil's rss.
`start` is the time until train knows its data; `CPU s` hardly depends on other programs. Train is a small network, stopped
after its first checkpoint, at step 300. The last lines compare the largest corpus with the smallest.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import scratch

STAGES = ("download", "tokenize", "train")
STEPS = 300  # of train
SMALL = {  # a network that needs little memory itself
    **{"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 128, "stride": 128, "epochs": 1, "threads": 1},
    **{"eval_every": 0, "checkpoint_every": STEPS},
}
_STATUS = re.compile(r"(?m)^(RssAnon|RssFile|RssShmem):\s+(\d+) kB$")


@dataclass(frozen=True)
class Cost:
    """What one run of a stage needed."""

    seconds: float
    cpu: float  # seconds, of the stage and the children that it waited for
    start: float | None  # seconds until train knew its data
    own: float  # peak, MB
    resident: float  # peak, MB
    disk: float  # MB in data/<stage>


def memory(process: psutil.Process) -> tuple[int, int]:
    """A process's own and its resident memory, bytes."""
    if not Path("/proc/self/status").exists():
        return (process.memory_info().rss,) * 2
    parts = {key: int(value) * 1024 for key, value in _STATUS.findall(Path(f"/proc/{process.pid}/status").read_text())}
    resident = sum(parts.values())
    return resident - parts.get("RssFile", 0), resident


def run(stage: str, folder: Path) -> Cost:
    """Run a stage in `folder` as dvc does, and measure it; train is stopped at its first checkpoint."""
    began, first_line, stopped = time.perf_counter(), None, False
    peaks = [0, 0]
    with open(folder / "log", "w+", encoding="utf-8") as log:
        process = psutil.Popen(
            [sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=scratch.environment(folder), stdout=log, stderr=log
        )
        tree, seen, looked = [process], set[psutil.Process](), 0.0
        while True:
            if time.perf_counter() - looked > 0.5:
                children = set(_children(process))
                tree, seen, looked = [process, *(children & seen)], children, time.perf_counter()
            sums = [sum(side) for side in zip(*(_memory_or_none(member) for member in tree), strict=True)]
            peaks = [max(pair) for pair in zip(peaks, sums, strict=True)]
            if stage == "train" and first_line is None and "steps in all" in (folder / "log").read_text(encoding="utf-8"):
                first_line = time.perf_counter() - began
            if stage == "train" and not stopped and list(folder.glob(".checkpoints/*/step-*-*.safetensors")):
                process.send_signal(signal.SIGTERM)
                stopped = True
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.02)
    if status and not stopped:
        sys.exit(f"{stage} failed: {(folder / 'log').read_text(encoding='utf-8')[-2000:]}")
    data = folder / "data" / stage
    disk = sum(path.stat().st_size for path in data.iterdir()) if data.exists() else 0
    seconds, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    return Cost(seconds, cpu, first_line, peaks[0] / 1e6, peaks[1] / 1e6, disk / 1e6)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


def _memory_or_none(process: psutil.Process) -> tuple[int, int]:
    try:
        return memory(process)
    except (psutil.Error, OSError):  # it has just ended
        return 0, 0


def main() -> None:
    """Measure each size, print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--dataset", default="storybook")
    parser.add_argument("--vocabulary", default="corpus", choices=["corpus", "full"])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    args = parser.parse_args()
    dataset = str(Path(args.dataset).resolve()) if Path(args.dataset).exists() else args.dataset
    names = ("stories", "seconds", "CPU s", "start s", "own MB", "resident MB", "disk MB")
    print(f"{'stage':<10}" + "".join(f"{name:>12}" for name in names))
    costs: dict[tuple[str, int], Cost] = {}
    for samples in args.samples:
        with tempfile.TemporaryDirectory(prefix="data-memory-") as name:
            scratch.project(Path(name), dataset=dataset, max_samples=samples, vocabulary=args.vocabulary, **SMALL)
            for stage in args.stages:
                cost = costs[stage, samples] = run(stage, Path(name))
                times = f"{cost.seconds:>12.1f}{cost.cpu:>12.1f}{'' if cost.start is None else f'{cost.start:.1f}':>12}"
                row = f"{times}{cost.own:>12.0f}{cost.resident:>12.0f}{cost.disk:>12.1f}"
                print(f"{stage:<10}{samples:>12,}{row}", flush=True)
    for stage in args.stages:
        few, many = costs[stage, min(args.samples)], costs[stage, max(args.samples)]
        print(f"{stage}: own memory x {many.own / few.own:.3f}, resident x {many.resident / few.resident:.3f}")


if __name__ == "__main__":
    main()
