"""What the benchmarks share: sides take turns in one run, so that a busy machine slows all of them, and are compared."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
Turn = Callable[[], float]  # works for some seconds and returns the seconds that one unit of its work took


def take_turns(sides: Mapping[str, Turn], rounds: int) -> dict[str, list[float]]:
    """What each side returns, once per round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, turn in sides.items():
            times[name].append(turn())
    return times


def ratio(other: Sequence[float], own: Sequence[float]) -> str:
    """How many times as fast as the other side the own one is: the median of the rounds, the least and the most."""
    if other is own:
        return "1"
    ratios = [theirs / ours for theirs, ours in zip(other, own, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


class Worker:
    """A side in a process of its own, which no setting of another side reaches. Calling it is a turn, see `serve`."""

    def __init__(self, module: str, *words: str) -> None:
        command = [sys.executable, "-m", module, *words]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.ready = self._read() == "ready"  # if not, it has said why on standard error
        self.peak = 0.0  # bytes of memory that it has used at most

    def __call__(self) -> float:
        assert self._process.stdin
        print(file=self._process.stdin, flush=True)
        answer = json.loads(self._read())
        self.peak = float(answer["peak"])
        return float(answer["seconds"])

    def close(self) -> None:
        """Let it end, and wait for that."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().rstrip("\n")


def serve(run: Callable[[int], None], steps: int, seconds: float, peak: Callable[[], float]) -> None:
    """Be a worker: for each line on standard input take steps for some seconds; the median time of a step is the answer.

    `run` takes this many steps, to their end. The clock is read each time that `steps` have been taken.
    """
    for _ in range(2):  # what is compiled, recorded or allocated in the first steps
        run(steps)
    print("ready", flush=True)
    for _ in sys.stdin:
        times: list[float] = []
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            run(steps)
            times.append((time.perf_counter() - start) / steps)
        print(json.dumps({"seconds": statistics.median(times), "peak": peak()}), flush=True)
