"""The GPU report: each result is written as soon as it is known, and nothing takes longer than it may."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_measures, gpu_report
from benchmarks.gpu_report import MARK, Report, measure

FOUND = {"what": "speed", "value": 1234.5, "unit": "tokens/s"}
SAYS = f"print('{MARK}' + {json.dumps(json.dumps(FOUND))}, flush=True);"


def python(code: str) -> list[str]:
    """A measurement that runs this code."""
    return [sys.executable, "-c", code]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[bool, list[dict[str, Any]]]]:
    """Runs a report whose measurements are these programs; returns whether the smoke test passed, and report.json's rows."""

    def run(programs: dict[str, str], minutes: float = 8.0) -> tuple[bool, list[dict[str, Any]]]:
        monkeypatch.setattr(gpu_measures, "LIMITS", dict.fromkeys(programs, 60.0))
        monkeypatch.setattr(
            gpu_report, "measure", lambda command, seconds, log: measure(python(programs[command[3]]), seconds, log)
        )
        passed = gpu_report.run(Report(tmp_path, {"device": "none"}), list(programs), [], minutes)
        return passed, json.loads((tmp_path / "report.json").read_text())["results"]

    return run


def test_a_result_is_there_while_its_measurement_goes_on(tmp_path: Path) -> None:
    """A measurement that waits for an answer to its first result gets it, and ends well."""
    waits = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'seen')!r}): time.sleep(0.01)"
    rows = measure(python(f"{SAYS}\n{waits}"), 60.0, tmp_path / "log")
    assert next(rows) == FOUND
    (tmp_path / "seen").touch()
    assert list(rows) == []


def test_what_was_found_before_the_time_was_over_is_kept(tmp_path: Path) -> None:
    """A measurement that takes too long is stopped with all its processes; its results until then count."""
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
    rows = list(measure(python(f"{child} {SAYS} time.sleep(60)"), 2.0, tmp_path / "log"))
    assert rows[0] == FOUND
    assert rows[1]["value"] == "no: stopped after 2 s, see log"
    assert rows[1]["met"] is False


@pytest.mark.parametrize(
    ("programs", "minutes", "values"),
    [
        ({"smoke": SAYS, "train": "exit(3)", "evaluate": SAYS}, 8.0, [1234.5, "no: exit 3", 1234.5]),
        ({"smoke": SAYS, "train": "raise RuntimeError('no such kernel')"}, 8.0, [1234.5, "no: RuntimeError: no such kernel"]),
        ({"smoke": "raise SystemExit('the step was not captured')", "train": SAYS}, 8.0, ["no: the step was not captured"]),
        ({"smoke": SAYS, "train": SAYS}, 0.0, ["no: no time is left"] * 2),
    ],
)
def test_the_report_has_each_result_or_its_reason(
    programs: dict[str, str], minutes: float, values: list[object], taken: Callable[..., Any], tmp_path: Path
) -> None:
    """One that fails does not stop the others, except the smoke test; after the minutes of the report nothing begins."""
    passed, rows = taken(programs, minutes)
    assert [row["value"] for row in rows] == values
    assert passed is (len(rows) == len(programs))
    assert (1234.5 in values) is ("| smoke | speed | 1,234 tokens/s |" in (tmp_path / "report.md").read_text())


def test_a_goal_is_met_or_not() -> None:
    """A speed must reach its goal, a time must not exceed it; without a goal nothing is said."""
    assert gpu_measures.result("x", 500_001.0, goal="evaluate")["met"] is True
    assert gpu_measures.result("x", 2.5, goal="default step", least=False)["met"] is False
    assert "met" not in gpu_measures.result("x", 1.0)


def test_without_a_gpu_only_the_script_can_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message, and nothing is measured."""
    monkeypatch.setattr(sys, "argv", ["gpu_report", "--device", "cpu"])
    with pytest.raises(SystemExit, match="error: there is no GPU here"):
        gpu_report.main()


@pytest.mark.parametrize("name", ["evaluate", "generate", "original"])
def test_measurements_work(name: str) -> None:
    """On a CPU with tiny shapes each gives a result; the original experiment asks for its stories."""
    rows = list(gpu_measures.MEASURES[name](Namespace(shapes="tiny", device="cpu", data=None)))
    assert rows
    assert all(row["value"] for row in rows)
