"""Block: the part of a page that a script writes, between `<!-- numbers: <command> -->` and `<!-- end of numbers -->`."""

from __future__ import annotations

import re
from pathlib import Path

from stages.common import files

BLOCK = re.compile(r"(<!-- numbers: .*? -->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def write(page: Path, text: str) -> None:
    """Replace the text of the page's only block."""
    before = page.read_text(encoding="utf-8")
    after, count = BLOCK.subn(lambda found: f"{found[1]}{text}\n{found[2]}", before)
    assert count == 1, f"{page} has {count} blocks of numbers"
    files.write_text(page, after)
