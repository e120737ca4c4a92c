"""Recording a function as a CUDA graph: its kernels are launched all at once when it is replayed.

The training step and the decode step are recorded with it. Whatever changes from call to call must be in buffers that do not
move, because a replay reads and writes the addresses that were recorded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

ReplayFn = Callable[[], None]
Recorder = Callable[[ReplayFn], ReplayFn]  # runs a function a few times and returns one that repeats it
WARM_UP = 3  # runs before a capture, in which libraries allocate their work space and choose their kernels


def cuda_graph(device: torch.device) -> Recorder:
    """Recording on this GPU: warm-up and capture on one side stream, all graphs in one memory pool (they never overlap)."""
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    pool = torch.cuda.graph_pool_handle()

    def record(run: ReplayFn) -> ReplayFn:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream(device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            run()
        return graph.replay

    return record
