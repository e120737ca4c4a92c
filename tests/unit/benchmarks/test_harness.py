"""The benchmarks: sides take turns, a side that fails is left out, and each side of the training benchmark trains."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import pytest
import torch
from source_tree import ROOT

from benchmarks import harness, train

SHAPE = train.Shape(layers=1, heads=2, width=16, vocabulary=40, batch=2, context=8)
SERVE = (
    "from benchmarks.harness import serve; import time; serve(lambda steps: time.sleep(0.001 * steps), 5, 0.01, lambda: 7.0)"
)


def test_sides_alternate() -> None:
    """Each round has a turn of every side, in the same order."""
    order: list[str] = []

    def turn(name: str) -> float:
        order.append(name)
        return float(len(order))

    times = harness.take_turns({name: partial(turn, name) for name in ("ours", "theirs")}, 2)
    assert order == ["ours", "theirs"] * 2
    assert times == {"ours": [1.0, 3.0], "theirs": [2.0, 4.0]}


def test_ratio_is_of_each_round() -> None:
    """The median, the least and the most of the rounds' own ratios; a side compared with itself is 1."""
    own = [1.0, 2.0, 4.0]
    assert harness.ratio([3.0, 4.0, 4.0], own) == "2.00 (1.00 to 3.00)"
    assert harness.ratio(own, own) == "1"


def test_a_worker_answers_each_turn() -> None:
    """A process that serves says when it is ready, and gives the seconds of one step and its memory for each line."""
    with subprocess.Popen([sys.executable, "-c", SERVE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        said, _ = process.communicate(b"\n\n")
    ready, *answers = said.decode().splitlines()
    assert ready == "ready"
    assert [json.loads(answer)["peak"] for answer in answers] == [7.0, 7.0]
    assert all(json.loads(answer)["seconds"] >= 0.001 for answer in answers)


@pytest.mark.parametrize("side", train.SIDES)
def test_every_side_trains(side: str) -> None:
    """Ours and theirs, compiled or not, take the steps that they are asked for."""
    with torch.compiler.set_stance("force_eager"):  # the same calls without the minutes of compiling
        train.SIDES[side](SHAPE, "cpu", "fp32")(2)


def test_rows_compare_every_side_with_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each side that works: its speed, its ratio to each side of theirs, its memory and its share of the limit."""

    class Fake:
        def __init__(self, module: str, *words: str) -> None:
            self.side = words[-2]
            assert words[words.index("--precision") + 1] == "fp32", "all sides compute in the same precision"
            self.ready, self.peak = self.side != "transformers, compiled", 2.0**30

        def __call__(self) -> float:
            return 0.002 if self.side.startswith("ours") else 0.004

        def close(self) -> None: ...

    monkeypatch.setattr(harness, "Worker", Fake)
    monkeypatch.setitem(train.SHAPES, "test", SHAPE)
    monkeypatch.setattr(train, "seconds_at_the_limit", lambda shape, device, precision: 0.001)
    rows = train.compare("test", list(train.SIDES), "cpu", "fp32", rounds=3, seconds=0.0)
    shape, faster = str(SHAPE), "2.00 (2.00 to 2.00)"
    assert rows == [
        [shape, "ours", "8,000", "2.00", faster, "–", "1.00", "50%"],
        [shape, "ours, compiled", "8,000", "2.00", faster, "–", "1.00", "50%"],
        [shape, "transformers", "4,000", "4.00", "1", "–", "1.00", "25%"],
    ]
