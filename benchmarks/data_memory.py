"""Peak memory, time and disk of download and tokenize at several corpus sizes, in a scratch folder.

    python benchmarks/data_memory.py --samples 20000 200000 [--dataset PATH]

Memory is the resident set of the stage and all its children together: the largest of what psutil sees every 10 ms and
of what the kernel reports at the end (ru_maxrss). The last line is the ratio of the largest corpus to the smallest.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("download", "tokenize")


@dataclass(frozen=True)
class Cost:
    """What one run of a stage took."""

    seconds: float
    megabytes: float  # peak resident set of the process tree
    disk: float  # MB in data/<stage>


def run(stage: str, folder: Path, *options: str) -> Cost:
    """Run a stage in `folder` as dvc does, and measure it."""
    start = time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", f"stages.{stage}", *options], cwd=folder, stderr=subprocess.PIPE)
    peak = 0
    while True:
        try:
            tree = [process, *process.children(recursive=True)]
            peak = max(peak, sum(member.memory_info().rss for member in tree))
        except psutil.NoSuchProcess:
            pass
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{stage} failed: {process.stderr.read().decode()[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    disk = sum(path.stat().st_size for path in (folder / "data" / stage).iterdir())
    return Cost(seconds, max(peak, usage.ru_maxrss * unit) / 1e6, disk / 1e6)


def prepare(folder: Path, **params: object) -> None:
    """A scratch copy of what the two stages need, with some parameters changed."""
    for name in ("stages", "model"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for key, value in params.items():
        text = re.sub(rf"(?m)^{key}:.*", f"{key}: {value}", text)
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def main() -> None:
    """Measure each size, print a table and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--dataset", default="storybook")
    parser.add_argument("--vocabulary", default="corpus", choices=["corpus", "full"])
    args = parser.parse_args()
    print(f"{'stage':<10}{'stories':>12}{'seconds':>10}{'stories/s':>12}{'peak MB':>10}{'disk MB':>10}")
    costs: dict[tuple[str, int], Cost] = {}
    for samples in args.samples:
        with tempfile.TemporaryDirectory() as name:
            prepare(Path(name), dataset=args.dataset, max_samples=samples, vocabulary=args.vocabulary)
            for stage in STAGES:
                cost = costs[stage, samples] = run(stage, Path(name))
                rate = samples / cost.seconds
                row = f"{cost.seconds:>10.1f}{rate:>12,.0f}{cost.megabytes:>10.0f}{cost.disk:>10.1f}"
                print(f"{stage:<10}{samples:>12,}{row}", flush=True)
    for stage in STAGES:
        few, many = costs[stage, min(args.samples)], costs[stage, max(args.samples)]
        print(f"{stage}: peak memory x {many.megabytes / few.megabytes:.3f}")


if __name__ == "__main__":
    main()
