"""Signals: SIGINT and SIGTERM turned into a question that the training loop asks between two steps."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody asked us to stop (SIGTERM, or Ctrl-C): the loop asks `signal_name` between steps."""

    def __init__(self) -> None:
        self.signal_name: str | None = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None:  # asked twice: at once
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
        print(f"\n{self.signal_name}: saving after this step (once more to stop at once)", file=sys.stderr)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a question that the loop asks, until the block ends."""
    stop = Stop()
    previous = {number: signal.signal(number, stop._ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
