"""Pages with measured numbers have a place for them."""

from __future__ import annotations

from pathlib import Path

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
