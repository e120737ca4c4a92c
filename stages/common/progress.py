"""Progress: a bar with rate and remaining time, on a terminal and in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


def bar(total: int | None, title: str, unit: str, initial: int = 0, **options: Any) -> tqdm[Any]:
    """A progress bar on standard error; in a log file or CI it prints a line every 10 seconds instead of ten a second."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=initial,
        desc=title,
        unit=unit,
        dynamic_ncols=terminal,
        ncols=None if terminal else 110,
        mininterval=0.1 if terminal else 10.0,
        leave=True,
        **options,
    )
