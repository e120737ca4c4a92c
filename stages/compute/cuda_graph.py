"""Recording a function as a CUDA graph: its kernels are launched all at once when it is replayed.

The training step and the decode step are recorded with it. Whatever changes from call to call must be in buffers that do not
move, because a replay reads and writes the addresses that were recorded.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import torch
from tqdm import tqdm

from model.generation import Recorder, ReplayFn

WARM_UP = 3  # runs before a capture, in which libraries allocate their work space and choose their kernels


class CaptureFailed(Exception):
    """A function could not be recorded. The exception's text is the reason, in a line."""


def cuda_graph(device: torch.device) -> Recorder:
    """Recording on this GPU: warm-up and capture on one side stream, all graphs in one memory pool (they never overlap).

    The recorder raises CaptureFailed, and then leaves stream, memory and random generator as they are without it.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    pool = torch.cuda.graph_pool_handle()

    def record(run: ReplayFn) -> ReplayFn:
        nonlocal pool
        current = torch.cuda.current_stream(device)
        try:
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    run()
            current.wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                run()
        except Exception as error:
            torch.cuda.set_stream(current)  # the end of a capture that failed raises before it does this
            pool = torch.cuda.graph_pool_handle()  # the old one counts as being recorded into for good
            _recover(device)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CaptureFailed(reason[:200]) from error
        return graph.replay

    return record


def recorded_or_plain(record: Recorder, what: str) -> Recorder:
    """A recorder that returns the function itself where `record` raises CaptureFailed, and says so in one line."""

    def record_or_keep(run: ReplayFn) -> ReplayFn:
        try:
            return record(run)
        except CaptureFailed as error:
            tqdm.write(f"warning: {what} could not be captured ({error}); it runs uncaptured, more slowly", file=sys.stderr)
            return run

    return record_or_keep


def _recover(device: torch.device) -> None:
    """After a failed capture: free its memory, and replace the random generator, which would wait for the capture's end."""
    with suppress(Exception):
        fresh = torch.Generator(device).graphsafe_get_state()
        torch.cuda.default_generators[device.index or 0].graphsafe_set_state(fresh)
    with suppress(RuntimeError):
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
