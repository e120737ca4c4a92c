"""The reference pages are of this code: every key and every metric with its meaning, none that is gone."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pages
import pytest
from source_tree import PARAMS, ROOT

from docs.make import references
from stages.common import files
from stages.common.files import Metric
from stages.tracking import pipeline
from stages.training.history import BY_EPOCH, COLUMNS, CURVES


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script reads params.yaml in the project's folder."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("page", references.PAGES)
def test_reference_page_is_what_the_code_says(page: str) -> None:
    """docs/params.md and docs/metrics.md are what `make references` writes."""
    assert pages.read(page) == references.PAGES[page](), "run make references"


def test_every_param_is_on_its_page() -> None:
    """The page has a row for each key of params.yaml: default, meaning, limits, and at least one stage that reads it."""
    rows = [line.split(" | ") for line in pages.read("docs/params.md").splitlines() if line.startswith("| `")]
    assert {row[0].strip("| `") for row in rows} == PARAMS
    for row in rows:
        assert len(row) == 5 and all(cell.strip(" |") for cell in row), row


def test_limits_are_the_checked_ones() -> None:
    """Numbers with open and closed ends, choices, texts and null, as `Params` checks them."""
    page = pages.read("docs/params.md")
    for row in (
        "`adamw`, `muon` | train |",
        "number from 0 below 1 | train |",
        "number above 0 to 1, or `null` | generate |",
        "whole number from 1 to 1,000 | train |",
        "text (not empty, at most 4,000 characters), or `null` | identify, download |",
        "`true`, `false`, or `auto` | train, evaluate |",
    ):
        assert row in page


def test_every_column_of_the_curves_is_declared() -> None:
    """What training writes by step and by epoch has a meaning, apart from the counters of its rows."""
    assert {*COLUMNS["history"], *COLUMNS["validation"]} - {"step", "tokens"} <= CURVES.keys()
    assert set(COLUMNS["epochs"]) - {"epoch"} == BY_EPOCH.keys()


def test_a_metric_that_is_not_declared_is_not_written(tmp_path: Path) -> None:
    """A number without a meaning, or the end of an interval that is not declared, stops the stage that measures it."""
    declared = {"loss": Metric("meaning", "unit", "low"), "gap": Metric("meaning", "unit", "low", interval=True)}
    files.write_metrics(tmp_path / "metrics.json", {"loss": 1.0, "gap": 2.0, "gap_low": 1.0, "gap_high": 3.0}, declared)
    for name in ("los", "loss_low", "gap_lower"):
        with pytest.raises(AssertionError, match=f"not declared: {name}$"):
            files.write_metrics(tmp_path / "metrics.json", {name: 1.0}, declared)


@pytest.mark.parametrize("stage", pipeline.measured())
def test_every_declaration_is_whole(stage: str) -> None:
    """Each metric of a stage has a meaning, a unit, and a word on which values are good."""
    for key, metric in import_module(f"stages.{stage}").METRICS.items():
        assert metric.meaning.endswith(".") and metric.unit and metric.good, key
