"""Errors: what a user can fix, and the one warning about tracking."""

from __future__ import annotations

import sys


class UserError(Exception):
    """Something that the user can fix. Its text names the key or file, what is wrong and what to do."""


def warn_of_tracking(reason: str) -> None:
    """Warn once that MLflow failed; training continues."""
    print(f"warning: MLflow: {reason} Training continues; `dvc repro` completes the run later.", file=sys.stderr)
