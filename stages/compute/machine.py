"""Machine: memory, threads, device, precision, and whether compiling pays."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import torch

from model import GPT2Config
from stages.common.errors import UserError

HUGE_PAGE, HEAP = 2 << 20, 896 << 20  # bytes; the part of the heap with huge pages stays below the trim threshold
MADV_HUGEPAGE = 14
TENSOR_CORES = (7, 0)  # compute capability from which a GPU multiplies fp16 faster than fp32
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
SIDE = 8192  # of the square matrices that a GPU's limit is measured with
COMPILED_FROM = (8, 0)  # compute capability; older GPUs compute the attention by hand, which is not compiled
# seconds to compile, and seconds saved per step, per block and per activation, measured on an H200
SECONDS_TO_COMPILE, SECONDS_PER_BLOCK, SECONDS_PER_ACTIVATION = 12.0, 50e-6, 0.2e-9
NO_MEMORY = re.compile(r"out of memory|can('t|not) allocate memory|ALLOC_FAILED", re.IGNORECASE)  # CUDA's, the CPU's, cuBLAS's


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
    """Use this many CPU threads (0 = all cores this process may use), at most as many as OMP_THREAD_LIMIT allows, and return
    their number. OpenMP keeps its limit in silence: PyTorch would report more threads than there are."""
    limit = getattr(ctypes.CDLL(None), "omp_get_thread_limit", lambda: usable_cores())()
    torch.set_num_threads(min(threads or usable_cores(), limit))
    return torch.get_num_threads()


def usable_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that this process may use at once: those it is bound to, but no more than a container's quota of time allows.

    More threads than the quota would all stand still for the rest of each period. `groups` is where Linux mounts the control
    groups; in a container its top is the container's own.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        most, period = (groups / "cpu.max").read_text().split()
        cores = min(cores, max(1, int(most) // int(period)))  # `max` is no limit
    return cores


def pick_device(name: str) -> str:
    """`auto` -> cuda if there is a GPU that works, else cpu. `cuda:1` becomes the GPU that all CUDA calls mean.

    Raises:
        UserError: a GPU was asked for by name, and there is none or PyTorch has no kernels for it.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return "cpu"
    index = int(name.partition(":")[2] or 0)
    if index >= count:
        raise UserError(f"device: {name} is not available (CUDA devices found: {count}). Set device to auto or cpu")
    if reason := _unsupported(index):
        if name == "auto":
            print(f"{reason}: taking the CPU", file=sys.stderr)
            return "cpu"
        raise UserError(f"device: {reason}. Set device to cpu, or install a PyTorch that has them (make setup TORCH=cu126)")
    if ":" in name:
        torch.cuda.set_device(index)  # streams, events, graphs and figures of memory are else GPU 0's
    return "cuda" if name == "auto" else name


def _unsupported(index: int) -> str:
    """Why PyTorch's build cannot use this GPU; empty if it can."""
    capability, archs = torch.cuda.get_device_capability(index), torch.cuda.get_arch_list()
    if has_kernels(capability, archs):
        return ""
    gpu = f"{torch.cuda.get_device_name(index)} (compute capability {capability[0]}.{capability[1]})"
    return f"this PyTorch has no kernels for {gpu}, only for {', '.join(archs)}"


def has_kernels(capability: tuple[int, int], archs: Iterable[str]) -> bool:
    """Whether a build of PyTorch for these architectures runs on a GPU of this compute capability.

    `sm_86` is machine code for 8.6 and later 8.x; `sm_90a` for 9.0 alone; `compute_90` is compiled for any GPU from 9.0 on.
    Builds for AMD's GPUs have other names, and are taken as they are.
    """
    found = [match for arch in archs if (match := re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", arch))]
    for kind, major, minor, only in (match.groups() for match in found):
        built = int(major), int(minor)
        if built == capability or (not only and built <= capability and (kind == "compute" or built[0] == capability[0])):
            return True
    return not found


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


def compiles(wanted: bool | str, device: str, config: GPT2Config, tokens: int, steps: int) -> bool:
    """Whether to compile: `auto` = on a GPU where so many steps of so many tokens are long enough to pay for it.

    The answer follows from params and machine alone, never from what is in the compiler's cache: it decides bits.

    Raises:
        UserError: it is to be compiled, and there is no compiler.
    """
    if wanted is False:
        return False
    if wanted is True:
        if not has_compiler(device):
            needed = "Triton and a C compiler (cc, gcc or clang)" if device.startswith("cuda") else "a C++ compiler (g++)"
            raise UserError(f"compile: true needs {needed}, which were not found. Install them, or set compile to false")
        return True
    if not device.startswith("cuda") or not has_compiler(device) or torch.cuda.get_device_capability() < COMPILED_FROM:
        return False
    saved = config.n_layer * (SECONDS_PER_BLOCK + SECONDS_PER_ACTIVATION * tokens * config.n_embd)
    return steps * saved > SECONDS_TO_COMPILE


def has_compiler(device: str) -> bool:
    """Whether torch.compile has what it starts: on a GPU Triton and a C compiler, on a CPU a C++ compiler."""
    if device.startswith("cuda"):
        names = (os.environ.get("CC"), "cc", "gcc", "clang")
        return find_spec("triton") is not None and any(name and shutil.which(name) for name in names)
    return any(name and shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++", "c++"))


@contextmanager
def enough_memory(device: torch.device, advice: str) -> Iterator[None]:
    """Within it an out-of-memory error becomes a message with `advice` and the numbers that are known.

    Raises:
        UserError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not NO_MEMORY.search(str(error)):
            raise
        wanted = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
        numbers = [f"{wanted[1]} more wanted"] if wanted else []
        if device.type == "cuda":
            used, whole = torch.cuda.memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
            numbers.append(f"{used / 2**30:.2f} GiB in use of {whole / 2**30:.2f} GiB")
        known = f" ({', '.join(numbers)})" if numbers else ""
        raise UserError(f"out of memory in training{known}: {advice}") from error


def prefer_exact_cuda() -> None:
    """Let CUDA use only kernels that give the same bits each time; TF32 for what stays in fp32.

    Of PyTorch's attention kernels cuDNN's is left out: the flash kernel and the memory-efficient one, which float32 and GPUs
    without flash need, are exact in this mode. An operation without such a kernel raises RuntimeError.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # kernels chosen by rule, not by measured time
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)
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
