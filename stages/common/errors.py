"""Errors: what a user can put right, and the one warning that tracking gives."""

from __future__ import annotations

import sys


class UserError(Exception):
    """Something that the user can put right. Its text names the key or file, what is wrong and what to do."""


def warn_of_tracking(reason: str) -> None:
    """The one line that a failing MLflow store costs."""
    print(f"warning: MLflow: {reason} Training goes on; `dvc repro` completes the run later.", file=sys.stderr)
