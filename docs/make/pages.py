"""What the scripts that write a page's numbers share: results of a DVC revision, the picture, and the block of the page.

A block is the part of a page between `<!-- numbers: <command> -->` and `<!-- end of numbers -->`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import dvc.api
import matplotlib
from dvc.exceptions import DvcException
from matplotlib.figure import Figure

from stages.common import files
from stages.common.errors import UserError

BLOCK = re.compile(r"(<!-- numbers: .*? -->\n).*?(<!-- end of numbers -->)", re.DOTALL)


def read_output(path: Path | str, revision: str) -> str:
    """What a commit or experiment has in an output."""
    try:
        return str(dvc.api.read(str(path), rev=revision))
    except (DvcException, OSError) as error:
        raise UserError(f"{path} of {revision} cannot be read ({error}). Run it first: see --help") from error


def save(figure: Figure, path: Path, **settings: str) -> None:
    """Save a figure as SVG, with the same bytes each time; `settings` are more of matplotlib's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    all_settings: Any = {"svg.hashsalt": path.name, **settings}
    with matplotlib.rc_context(all_settings):
        figure.savefig(path, metadata={"Date": None})
    print(f"{path}: {path.stat().st_size // 1024} KiB")


def write_block(page: Path, text: str) -> None:
    """Replace the text of the page's only block, and print it."""
    before = page.read_text(encoding="utf-8")
    after, count = BLOCK.subn(lambda found: f"{found[1]}{text}\n{found[2]}", before)
    assert count == 1, f"{page} has {count} blocks of numbers"
    files.write_text(page, after)
    print(text)
