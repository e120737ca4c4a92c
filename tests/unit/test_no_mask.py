"""The page on the missing mask has a place for its numbers, and the table puts both runs beside each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from conftest import ROOT

from benchmarks import no_mask


def test_the_numbers_go_into_the_page() -> None:
    """Exactly one block of the page is replaced, and it can be replaced again."""
    page = (ROOT / no_mask.PAGE).read_text(encoding="utf-8")
    once, count = no_mask.BLOCK.subn(lambda found: f"{found[1]}NUMBERS\n{found[2]}", page)
    assert count == 1
    assert "NUMBERS" in once
    assert no_mask.BLOCK.subn(lambda found: f"{found[1]}NUMBERS\n{found[2]}", once) == (once, 1)


def test_the_table_has_a_column_for_each_run() -> None:
    """Known metrics are shown for both; without a floor (real stories) its rows are left out."""
    metrics = {"perplexity": 2.9, "train_perplexity": 2.8, "future_leak": 0.0, "trigram_perplexity": 6.5}
    masked: Any = SimpleNamespace(metrics=metrics)
    unmasked: Any = SimpleNamespace(metrics=metrics | {"perplexity": 1.012, "future_leak": 17.25})
    table = no_mask.table(masked, unmasked)
    assert "| validation perplexity | 2.900 | 1.012 |" in table
    assert "| future_leak | 0 | 17.2 |" in table
    assert "floor" not in table
