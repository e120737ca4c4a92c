"""Errors: what a user can put right, and the one warning about tracking."""

from __future__ import annotations

import sys


class UserError(Exception):
    """Something that the user can put right. Its text names the key or file, what is wrong and what to do."""


def warn_of_tracking(reason: str) -> None:
    """Warn once that MLflow failed; training goes on."""
    print(f"warning: MLflow: {reason} Training goes on; `dvc repro` completes the run later.", file=sys.stderr)
