"""The GPU report: all that is to be known of this project on one GPU, in at most eight minutes and without a network.

    python -m benchmarks.gpu_report [--shapes tiny] [--device cpu] [--only smoke train] [--data FOLDER]

Each measurement (`gpu_measures`) is a process of its own with its own time limit. What it finds is written to report.json and
report.md in build/gpu-report as soon as it is known; what it says, to files of its name there. Where the first one, the
smoke test, fails, the report ends with its reason. NANOGPT in the environment, the folder of a clone of nanoGPT, adds its step.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_measures, harness
from stages.common import files
from stages.common.errors import UserError
from stages.common.terminal import pluralize
from stages.compute import machine
from stages.tracking.git import git

FOLDER = Path("build/gpu-report")
MARK = "RESULT "  # begins a line with a result
MINUTES = 8.0
Row = dict[str, Any]


class Report:
    """The results so far, in two files that are always up to date.

    Attributes:
        rows: a result each: measurement, what, value, unit, goal, met, seconds since the start.
    """

    def __init__(self, folder: Path, facts: dict[str, str]) -> None:
        self.folder, self.facts, self.rows, self._start = folder, facts, list[Row](), time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def add(self, measure: str, result: Row) -> None:
        """Add a result and write both files."""
        self.rows.append({"measure": measure, **result, "at": round(self.seconds, 1)})
        self._write()
        print(f"{measure}: {result['what']}: {_value(result)}", flush=True)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    def _write(self) -> None:
        files.write_json(self.folder / "report.json", {"facts": self.facts, "seconds": self.seconds, "results": self.rows})
        head = ["measurement", "what", "value", "goal", "met"]
        met = {True: "yes", False: "no", None: ""}
        rows = [[row["measure"], row["what"], _value(row), row.get("goal", ""), met[row.get("met")]] for row in self.rows]
        facts = "\n".join(f"- {key}: {value}" for key, value in self.facts.items())
        table = files.markdown_table(head, rows, "llrrl")
        files.write_text(self.folder / "report.md", f"# GPU report\n\n{facts}\n- seconds: {self.seconds:.0f}\n\n{table}\n")


def _value(row: Row) -> str:
    value, unit = row["value"], row.get("unit", "")
    if isinstance(value, float):
        value = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return f"{value} {unit}".strip()


def measure(command: list[str], seconds: float, log: Path) -> Iterator[Row]:
    """Run a measurement and yield its results as they come; the last one says if it failed, or took longer than `seconds`."""
    end, output = time.monotonic() + seconds, log.with_suffix(".out")
    with open(log, "wb") as errors, open(output, "wb") as written, open(output, encoding="utf-8", errors="replace") as lines:
        process = subprocess.Popen(command, cwd=harness.ROOT, stdout=written, stderr=errors, start_new_session=True)
        try:
            running = True
            while running:
                running = process.poll() is None and time.monotonic() < end
                yield from (json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK))
                time.sleep(0.1 if running else 0.0)
            code = process.poll()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code is None:
        yield {"what": "ended", "value": f"no: stopped after {seconds:.0f} s, see {log.name}", "met": False}
    elif code:
        said = log.read_text(encoding="utf-8", errors="replace").split("\n")
        reason = next((line for line in reversed(said) if line.strip()), f"exit {code}")
        yield {"what": "ended", "value": f"no: {reason.strip()[:200]}", "met": False}


def run(report: Report, names: Iterable[str], options: list[str], minutes: float) -> bool:
    """Take the measurements in their order; whether the smoke test passed."""
    for name in names:
        left = minutes * 60.0 - report.seconds
        if left < 5.0:
            report.add(name, {"what": "begun", "value": "no: no time is left", "met": False})
            continue
        command = [sys.executable, "-m", "benchmarks.gpu_measures", name, *options]
        results = list[Row]()
        for result in measure(command, min(left, gpu_measures.LIMITS[name]), report.folder / f"{name}.log"):
            results.append(result)
            report.add(name, result)
        if name == "smoke" and any(result.get("met") is False for result in results):
            return False
    return True


def facts(device: str) -> dict[str, str]:
    """What was measured, and on what."""
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{machine.cpu_name()}, {pluralize(machine.set_threads(0), 'thread')}"
    )
    commit = git("describe", "--always", "--dirty", cwd=harness.ROOT)
    precision = machine.pick_precision("auto", device)
    return {"device": name, "PyTorch": torch.__version__, "precision": precision, "commit": commit}


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu_measures.add_options(parser)
    parser.add_argument("--only", nargs="+", choices=gpu_measures.LIMITS, default=list(gpu_measures.LIMITS), metavar="NAME")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="at most")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the report")
    args = parser.parse_args()
    try:
        device = machine.pick_device(args.device)
    except UserError as error:
        sys.exit(f"error: {error}")
    if device == "cpu" and args.shapes != "tiny":
        sys.exit("error: there is no GPU here. To try the script on the CPU: --shapes tiny (make gpu-report SHAPES=tiny)")
    options = ["--device", device, "--shapes", args.shapes]
    options += ["--data", str(args.data)] if args.data else []
    report = Report(args.out, facts(device))
    passed = run(report, [name for name in gpu_measures.LIMITS if name in args.only], options, args.minutes)
    print(f"\n{args.out / 'report.md'}: {len(report.rows)} results in {report.seconds:.0f} s")
    if not passed:
        sys.exit("error: the smoke test failed, see above: nothing else was measured")


if __name__ == "__main__":
    main()
