"""Pages with measured numbers have a place for them; the table on the missing mask puts both runs beside each other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stage_runs import ROOT

from docs.make import no_mask, pages, real_stories


@pytest.mark.parametrize("page", [no_mask.PAGE, real_stories.PAGE])
def test_the_numbers_go_into_the_page(page: Path, tmp_path: Path) -> None:
    """Exactly the page's one block is replaced, and it can be replaced again."""
    copy = tmp_path / page.name
    copy.write_bytes((ROOT / page).read_bytes())
    outside = pages.BLOCK.sub("", copy.read_text(encoding="utf-8"))
    for text in ("NUMBERS", "OTHERS"):
        pages.write_block(copy, text)
        written = copy.read_text(encoding="utf-8")
        assert f" -->\n{text}\n<!-- end of numbers -->" in written
        assert pages.BLOCK.sub("", written) == outside


def test_the_table_has_a_column_for_each_run() -> None:
    """Known metrics are shown for both; without a floor (real stories) its rows are left out."""
    metrics = {"perplexity": 2.9, "train_perplexity": 2.8, "future_leak": 0.0, "trigram_perplexity": 6.5}
    masked: Any = SimpleNamespace(metrics=metrics)
    unmasked: Any = SimpleNamespace(metrics=metrics | {"perplexity": 1.012, "future_leak": 17.25})
    table = no_mask.table(masked, unmasked)
    assert "| validation perplexity | 2.900 | 1.012 |" in table
    assert "| future_leak | 0 | 17.2 |" in table
    assert "floor" not in table
