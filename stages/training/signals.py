"""Signals: requests to stop, seen between two steps, and the end of a training whose inputs were edited."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from types import FrameType

from stages.common import inputs, session
from stages.training.distributed import World

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)  # Slurm and others send them some time before a job's end


class Stop:
    """Whether training is to stop: Ctrl-C, SIGTERM, a closed terminal, a cluster's warning, the end of DVC."""

    def __init__(self) -> None:
        self.signal_name: str | None = None  # what asked for it

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Note the signal. The same one again, or Ctrl-C, stops at once; another one does not: torchrun adds its own.

        Nor does a warning that is repeated: the kernel sends SIGXCPU every second.
        """
        name = signal.Signals(number).name
        if self.signal_name is None:
            self.ask(name)
        elif name == "SIGINT" or (name == self.signal_name and number not in WARNINGS):
            raise KeyboardInterrupt

    def ask(self, name: str) -> None:
        """Ask the loop to save and stop."""
        self.signal_name = self.signal_name or name
        print(f"\n{name}: saving after this step (Ctrl-C to stop at once)", file=sys.stderr)

    def when_dvc_ends(self, pid: int) -> None:
        """Ask when DVC's process has ended, killed perhaps: nothing would use the result."""
        session.wait_for_end(pid)
        self.ask("DVC has ended")


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Within the block, signals and the end of DVC become a request that the loop looks for."""
    stop = Stop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    # SIGHUP is ignored under nohup, and a scheduler may have the others ignored
    numbers += [number for number in (signal.SIGHUP, *WARNINGS) if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, stop.on_signal) for number in numbers}
    if (dvc := session.dvc_pid()) != os.getpid():
        Thread(target=stop.when_dvc_ends, args=[dvc], daemon=True).start()
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_if_edited(save: Callable[[], None], forget: Callable[[], None], world: World) -> None:
    """End the training if what it depends on was edited meanwhile; restored, it resumes where it ended.

    `save` writes a checkpoint, `forget` removes them all. Tokens are read as they are needed: where new ones were written into
    the same file, it is not known which the steps have seen.

    Raises:
        UserError: it was edited.
    """
    found = inputs.edited()
    changed, unknown = world.any(bool(found), inputs.written_into(found, ".npy"))
    if unknown:
        forget()
    elif changed:
        save()
    inputs.check()
