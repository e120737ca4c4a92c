"""What logging to MLflow costs training: the stage `train` with and without it (`--no-log`), in turns, in a scratch folder.

    python -m benchmarks.logging_cost [--samples 2000] [--pairs 3]

Printed of each training: the seconds of its loop, and the CPU seconds of the stage and the process that logs. The last lines
are the ratios of the medians. Other programs on the machine disturb the CPU time less: with all cores busy the two ratios
agree; with a free core, logging costs less time than CPU. A short training is the hard case, because opening the store is a
fixed cost. The store is new in the first pair, which therefore pays for its creation too.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import tempfile
from pathlib import Path

from benchmarks import scratch

SPEED = re.compile(r"\(([\d,]+) tokens/s\)")  # in the stage's last line


def train(folder: Path, *words: str) -> tuple[float, float]:
    """One training: the seconds of its loop, and the CPU seconds of the stage and of what it started."""
    before = cpu_of_children()
    said = scratch.run(folder, "stages.train", *words).stdout
    tokens = json.loads((folder / "data/train/metrics.json").read_text(encoding="utf-8"))["tokens"]
    speed = SPEED.search(said)
    assert speed, said
    return tokens / float(speed[1].replace(",", "")), cpu_of_children() - before


def cpu_of_children() -> float:
    """CPU seconds of all processes that this one has waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prepare the data, then measure pair after pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000, help="stories to train on")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument(
        "-S", dest="changes", action="append", default=[], metavar="key=value", help="other changes to params.yaml"
    )
    args = parser.parse_args()
    changes = scratch.parse(args.changes)
    with tempfile.TemporaryDirectory(prefix="logging-cost-") as name:
        folder = scratch.project(Path(name), **{"max_samples": args.samples} | changes)
        for stage in ("download", "tokenize"):
            scratch.run(folder, f"stages.{stage}")
        measured: dict[str, list[tuple[float, float]]] = {"with": [], "without": []}
        for pair in range(args.pairs):
            for how in ("with", "without") if pair % 2 == 0 else ("without", "with"):
                seconds, cpu = train(folder, *([] if how == "with" else ["--no-log"]))
                measured[how].append((seconds, cpu))
                print(f"pair {pair + 1}, {how:7} MLflow: loop {seconds:6.2f} s, CPU {cpu:6.2f} s", flush=True)
        for at, what in enumerate(("the loop's time", "CPU time of all processes")):
            medians = {how: statistics.median(row[at] for row in rows) for how, rows in measured.items()}
            print(f"{what} with logging: {medians['with'] / medians['without']:.3f} times that without")


if __name__ == "__main__":
    main()
