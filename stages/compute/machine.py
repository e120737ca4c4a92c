"""Machine: memory, threads, device and precision."""

from __future__ import annotations

import ctypes
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from stages.common.errors import UserError

HUGE_PAGE, HEAP = 2 << 20, 896 << 20  # bytes; the part of the heap with huge pages stays below the trim threshold
MADV_HUGEPAGE = 14
TENSOR_CORES = (7, 0)  # compute capability from which a GPU multiplies fp16 faster than fp32
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SIDE = 8192  # of the square matrices that a GPU's limit is measured with


def keep_freed_memory() -> None:
    """Tell glibc to keep the large buffers that each step frees, instead of returning and zeroing them again.

    Page faults otherwise take a third to two thirds of a training step on a CPU, and huge pages save part of the rest. Call it
    before torch allocates; elsewhere than on Linux with glibc it does nothing.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block by mmap
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: give back only above 1 GiB
        libc.mallopt(-2, 64 << 20)  # M_TOP_PAD: grow in steps of 64 MiB
        libc.mallopt(-8, 1)  # M_ARENA_MAX: one heap, so that what a thread frees another can use
        _use_huge_pages(libc)


def _use_huge_pages(libc: ctypes.CDLL) -> None:
    """Let the next HEAP bytes of glibc's heap have huge pages, where Linux lets a program choose. Takes no memory itself."""
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if block := libc.malloc(HEAP):  # untouched: addresses, no pages
        first = -(-block // HUGE_PAGE) * HUGE_PAGE
        libc.madvise(first, (block + HEAP - first) // HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE)
        libc.free(block)  # goes back to the heap, which is too small to be trimmed


def set_threads(threads: int) -> int:
    """Use this many CPU threads (0 = all cores this process may use) and return their number."""
    torch.set_num_threads(threads or usable_cores())
    return torch.get_num_threads()


def usable_cores(proc: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that this process may use at once: those it is bound to, but no more than a container's quota of time allows.

    More threads than the quota would all stand still for the rest of each period.

    Args:
        proc: Linux' file with the control groups of this process.
        groups: where these are mounted.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        for line in proc.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = groups / "cpu" if controllers else groups  # version 1 of control groups has a folder for each controller
            place = top / name.strip("/")
            for group in (place, *place.parents):
                if quota := _quota(group):
                    cores = min(cores, max(1, int(quota)))
                if group == top:
                    break
    return cores


def _quota(group: Path) -> float | None:
    """The cores' worth of time that a control group may use; None = no limit, or none that can be read."""
    with suppress(OSError, ValueError):
        if (group / "cpu.max").exists():
            most, period = (group / "cpu.max").read_text().split()
        else:
            most, period = ((group / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        return int(most) / int(period) if int(most) > 0 else None  # `max`, or -1, is no limit
    return None


def pick_device(name: str) -> str:
    """`auto` -> cuda if there is a GPU that works, else cpu.

    Raises:
        UserError: a GPU was asked for by name and there is none.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    if name.startswith("cuda"):
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise UserError(f"device: {name} is not here (CUDA devices: {count}). Set device to auto or cpu")
    return name


def pick_precision(name: str, device: str) -> str:
    """`auto` -> bf16 where the hardware multiplies it faster than fp32, else fp16 on a GPU that does, else fp32.

    The answer depends on the hardware only.

    Raises:
        UserError: fp16 was asked for on a CPU.
    """
    if device.startswith("cuda"):
        if name != "auto":
            return name
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability() >= TENSOR_CORES else "fp32"
    if name == "fp16":
        raise UserError("precision: fp16 is for GPUs; no CPU is fast at it. Set precision to auto, bf16 or fp32")
    if name != "auto":
        return name
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return "bf16" if any(getattr(torch.cpu, probe, bool)() for probe in probes) else "fp32"


def prefer_exact_cuda() -> None:
    """Let CUDA use only kernels that give the same bits each time; TF32 for what stays in fp32.

    Of PyTorch's attention kernels only flash is left; GPUs without it compute the attention by hand. An operation without such
    a kernel raises RuntimeError.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # kernels chosen by rule, not by measured time
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    with warnings.catch_warnings():  # PyTorch 2.9 to 2.12 warn of this call; what they advise breaks their own compiler
        warnings.simplefilter("ignore", UserWarning)
        torch.set_float32_matmul_precision("high")


@contextmanager
def any_kernel() -> Iterator[None]:
    """Within it, operations without an exact kernel are allowed: for work that does not decide the training's bits."""
    exact = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(exact)


def matrix_limit(device: str, precision: str) -> float:
    """FLOP/s of large matrix products on this GPU, the best of a few. It takes a fraction of a second."""
    dtype = DTYPES[precision]
    generator = torch.Generator(device).manual_seed(0)  # products of equal numbers would draw less power and run faster
    a, b = (torch.randn(SIDE, SIDE, device=device, generator=generator).to(dtype) for _ in range(2))
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    best = 0.0
    for _ in range(6):
        begin.record()
        a @ b
        end.record()
        end.synchronize()
        best = max(best, 2 * SIDE**3 / (begin.elapsed_time(end) / 1000))
    del a, b
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()  # the training's peak is its own
    return best


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
