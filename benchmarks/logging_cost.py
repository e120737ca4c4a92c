"""What logging to MLflow costs training: the real stage with and without it, in turns, in a scratch folder.

    python benchmarks/logging_cost.py [--samples 2000] [--pairs 3]

The last line is the ratio of the medians of the training loop's time. A short training is the hard case: opening the store is a
fixed cost. The store is new in the first pair, so that one pays for its creation too.
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
import sys, time
from contextlib import contextmanager
import stages.train
from stages.lib import live, trainer

@contextmanager
def nobody():
    yield None

if sys.argv[1] == "without":
    live._feeder = nobody
fit = trainer.Trainer.fit
def timed(*words):
    began = time.perf_counter()
    fit(*words)
    print("seconds of the loop:", time.perf_counter() - began)
trainer.Trainer.fit = timed
stages.train.main(None)
"""


def train(folder: Path, how: str) -> tuple[float, float]:
    """Seconds of the training loop, and of the whole stage."""
    environment = os.environ | {"DVC_ROOT": str(folder), "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    began = os.times().elapsed
    words = [sys.executable, "-c", TIMED, how]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return float(done.stdout.split("seconds of the loop:")[1].split()[0]), os.times().elapsed - began


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
        loops: dict[str, list[float]] = {"with": [], "without": []}
        for pair in range(args.pairs):
            for how in ("with", "without") if pair % 2 == 0 else ("without", "with"):
                loop, stage = train(folder, how)
                loops[how].append(loop)
                print(f"pair {pair + 1}, {how:7} MLflow: loop {loop:6.2f} s, stage {stage:6.2f} s", flush=True)
        ratio = statistics.median(loops["with"]) / statistics.median(loops["without"])
        print(f"the training loop with logging takes {ratio:.3f} times as long as without")


if __name__ == "__main__":
    main()
