"""The table that this suite prints: cases tried and passed, by kind. `--write-table FILE` also puts it into a document.

A test says its kind with `@pytest.mark.kind("...")` (or `pytestmark`); every parametrised case counts as one. A test that tries
several things records the properties `cases` and `passed`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


@dataclass
class Counts:
    """What became of the cases of one kind."""

    tried: int = 0
    passed: int = 0
    skipped: int = 0
    seconds: float = 0.0


@dataclass
class Table:
    """The counts by kind, filled from the tests' reports as they come in."""

    kinds: dict[str, Counts] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test's outcome under its kind."""
        told: dict[str, Any] = dict(report.user_properties)
        if "kind" not in told:
            return
        counts = self.kinds.setdefault(told["kind"], Counts())
        counts.seconds += report.duration
        if report.skipped:
            counts.skipped += 1
        elif report.when == "call" or report.failed:  # a failed set-up is a case that failed
            cases = told.get("cases", 1)
            counts.tried += cases
            counts.passed += told.get("passed", cases * report.passed)

    def lines(self) -> list[str]:
        """The table as Markdown, with a sum below."""
        rows = sorted(self.kinds.items())
        total = Counts(
            *(sum(getattr(counts, name) for _, counts in rows) for name in ("tried", "passed", "skipped", "seconds"))
        )
        head = ["| kind | tried | passed | skipped | seconds |", "|---|---:|---:|---:|---:|"]
        return head + [_row(kind, counts) for kind, counts in [*rows, ("**all**", total)]]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        """Print the table, and write it if asked."""
        if not self.kinds:
            return
        terminalreporter.section("reliability")
        for line in _aligned(self.lines()):
            terminalreporter.write_line(line)
        if name := config.getoption("--write-table"):
            path = Path(name)
            before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
            after = rest.partition(END)[2]
            path.write_text("\n".join([f"{before}{BEGIN}", *_aligned(self.lines()), f"{END}{after}"]), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's option."""
    parser.addoption("--write-table", metavar="FILE", help="put the table of tests/reliability into this Markdown file")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known and start counting."""
    config.addinivalue_line("markers", "kind(name): the line of the reliability table that counts this test")
    config.pluginmanager.register(Table())


def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Tell each report its test's kind."""
    for item in items:
        if marker := item.get_closest_marker("kind"):
            item.user_properties.append(("kind", marker.args[0]))


def _row(kind: str, counts: Counts) -> str:
    return f"| {kind} | {counts.tried} | {counts.passed} | {counts.skipped or ''} | {counts.seconds:.0f} |"


def _aligned(lines: list[str]) -> list[str]:
    """The same Markdown with columns of one width, to be read as text."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    widths = [max(len(row[i]) for row in cells if not row[i].startswith("--")) for i in range(len(cells[0]))]
    padded = []
    for row in cells:
        if row[0].startswith("---"):
            parts = ["-" * width if i == 0 else f"{'-' * (width - 1)}:" for i, width in enumerate(widths)]
        else:
            parts = [
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
        padded.append(f"| {' | '.join(parts)} |")
    return padded
