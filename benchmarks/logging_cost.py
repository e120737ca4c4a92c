"""What logging to MLflow costs training: the real stage with and without it, in turns, in a scratch folder.

    python benchmarks/logging_cost.py [--samples 2000] [--pairs 3]

Printed of each training: the loop's seconds, the CPU seconds of the loop and of the process that logs. The last lines are the
ratios of the medians: of the loop's time, and of the CPU time of both processes, which other programs on the machine disturb
less (with all cores busy the two ratios agree; with a free core logging costs less time than CPU). A short training is the hard
case: opening the store is a fixed cost. The store is new in the first pair, so that one pays for its creation too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMED = """
import resource, sys, time
from contextlib import contextmanager
import stages.train
from stages.training import live_run, trainer

@contextmanager
def nobody():
    yield None

if sys.argv[1] == "without":
    live_run._writer = nobody
    stages.train.samples = lambda *words: []  # written for the log only
fit = trainer.Trainer.fit
def timed(*words):
    began, busy = time.perf_counter(), time.process_time()
    fit(*words)
    print("seconds of the loop:", time.perf_counter() - began, time.process_time() - busy)
trainer.Trainer.fit = timed
stages.train.main(None)
logging = resource.getrusage(resource.RUSAGE_CHILDREN)
print("CPU seconds of logging:", logging.ru_utime + logging.ru_stime)
"""


def train(folder: Path, how: str) -> tuple[float, float, float]:
    """Of one training: the loop's seconds, its CPU seconds, and the CPU seconds of the process that logs."""
    environment = os.environ | {"DVC_ROOT": str(folder), "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    words = [sys.executable, "-c", TIMED, how]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    loop, busy = map(float, done.stdout.split("seconds of the loop:")[1].split()[:2])
    return loop, busy, float(done.stdout.split("CPU seconds of logging:")[1])


def main() -> None:
    """Prepare data, then measure pair after pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="stories to train on")
    parser.add_argument("--pairs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="logging-cost-") as name:
        folder = Path(name)
        for part in ("model", "stages", "params.yaml", "dvc.yaml", "requirements.txt"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copyfile
            copy(ROOT / part, folder / part)
        text = (
            (folder / "params.yaml").read_text(encoding="utf-8").replace("max_samples: 10000", f"max_samples: {args.samples}")
        )
        (folder / "params.yaml").write_text(text, encoding="utf-8")
        for stage in ("download", "tokenize"):
            subprocess.run([sys.executable, "-m", f"stages.{stage}"], cwd=folder, check=True, capture_output=True)
        measured: dict[str, list[tuple[float, float, float]]] = {"with": [], "without": []}
        for pair in range(args.pairs):
            for how in ("with", "without") if pair % 2 == 0 else ("without", "with"):
                loop, busy, logging = train(folder, how)
                measured[how].append((loop, busy, logging))
                print(
                    f"pair {pair + 1}, {how:7} MLflow: loop {loop:6.2f} s, CPU {busy:6.2f} s, logging's CPU {logging:5.2f} s",
                    flush=True,
                )
        loops = {how: statistics.median(loop for loop, _, _ in rows) for how, rows in measured.items()}
        both = {how: statistics.median(busy + logging for _, busy, logging in rows) for how, rows in measured.items()}
        print(f"the training loop with logging takes {loops['with'] / loops['without']:.3f} times as long as without")
        print(f"CPU time, both processes: {both['with'] / both['without']:.3f} times that without")


if __name__ == "__main__":
    main()
