"""The runtime sets a process up without costing it anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stage_runs import ROOT

from model import GPT2Config
from stages.common.errors import UserError
from stages.compute import machine

WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]  # PyTorch 2.13's for CUDA 13

SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SCRIPT = """
import ctypes, re
from pathlib import Path
from stages.compute import machine

def kib(key):
    return int(re.search(rf"^{key}: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text(), re.M)[1])

before = kib("Rss")
machine.keep_freed_memory()
taken = kib("Rss") - before
buffer = ctypes.create_string_buffer(256 << 20)
ctypes.memset(buffer, 1, len(buffer))
print(taken, kib("AnonHugePages"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not SWITCH.exists() or "[never]" in SWITCH.read_text(), reason="no huge pages on this system")
def test_large_buffers_are_in_huge_pages() -> None:
    """After the set-up, which takes no memory itself, a large buffer lies in huge pages."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    taken, huge = map(int, done.stdout.split())
    assert taken < 8 << 10  # KiB
    assert huge > 64 << 10


QUOTAS = {  # cpu.max: cores of four
    None: 4,  # there is no such file, as on macOS
    "max 100000": 4,
    "100000 100000": 1,
    "50000 100000": 1,
    "250000 100000": 2,
    "800000 100000": 4,
    "nonsense": 4,
}


@pytest.mark.kind("odd environment")
@pytest.mark.parametrize("quota", QUOTAS)
def test_all_cores_are_those_of_the_quota(quota: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a quota of time, as `docker run --cpus` and Kubernetes set it, has no more threads."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    if quota:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert machine.usable_cores(tmp_path) == QUOTAS[quota]


def test_fp16_needs_a_gpu() -> None:
    """On a CPU `fp16` is refused in one sentence that says what to set, and `auto` never chooses it."""
    with pytest.raises(UserError, match=r"precision: fp16 is for GPUs.*auto, bf16 or fp32"):
        machine.pick_precision("fp16", "cpu")
    assert machine.pick_precision("auto", "cpu") in ("bf16", "fp32")


@pytest.mark.parametrize(
    ("capability", "bf16", "answer"), [((9, 0), True, "bf16"), ((7, 5), False, "fp16"), ((6, 1), False, "fp32")]
)
def test_auto_is_what_the_gpu_is_fast_at(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], bf16: bool, answer: str
) -> None:
    """bf16 on newer GPUs, fp16 on a T4 or V100, fp32 on what is older; what is asked for by name is taken."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert machine.pick_precision("auto", "cuda") == answer
    assert machine.pick_precision("fp16", "cuda:1") == "fp16"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs that are not there, a T4 and one of Pascal; the list gets the number of each one that is made current."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: [(7, 5), (6, 1), (9, 0)][index])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: ["Tesla T4", "Tesla P4", "H200"][index])
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: WHEEL)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


def test_a_gpu_by_its_number_is_the_one_that_cuda_means(gpus: list[int]) -> None:
    """With `cuda:2` streams, graphs, limits and figures are that GPU's; `cuda` and `auto` leave the first one current."""
    assert machine.pick_device("cuda:2") == "cuda:2"
    assert gpus == [2]
    assert machine.pick_device("cuda") == machine.pick_device("auto") == "cuda"
    assert machine.pick_device("cpu") == "cpu"
    assert gpus == [2]
    with pytest.raises(UserError, match=r"device: cuda:3 is not available \(CUDA devices found: 3\)"):
        machine.pick_device("cuda:3")


def test_a_gpu_without_kernels_is_not_taken(
    gpus: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """PyTorch's build does not run on every GPU: `auto` says so in one line and takes the CPU, a name is refused."""
    with pytest.raises(UserError, match=r"device: this PyTorch has no kernels for Tesla P4 \(compute capability 6\.1\).*sm_75"):
        machine.pick_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index=0: (7, 0))
    assert machine.pick_device("auto") == "cpu"
    assert capsys.readouterr().err.count("no kernels for Tesla T4") == 1


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((7, 5), WHEEL, True),
        ((8, 9), WHEEL, True),  # an L4 runs sm_86
        ((7, 0), WHEEL, False),
        ((6, 1), WHEEL, False),
        ((10, 3), WHEEL, True),
        ((11, 0), WHEEL, False),
        ((11, 0), [*WHEEL, "compute_100"], True),
        ((9, 0), ["sm_90a"], True),
        ((12, 1), ["sm_120a"], False),
        ((9, 0), ["gfx90a", "gfx942"], True),  # ROCm
    ],
)
def test_kernels_run_on_later_gpus_of_their_generation(capability: tuple[int, int], archs: list[str], runs: bool) -> None:
    """Machine code runs on its own generation from its number on, intermediate code on all later ones, AMD's is not judged."""
    assert machine.has_kernels(capability, archs) is runs


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0"), r" \(2\.00 GiB more wanted\)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 kB"),
            r" \(9 kB more wanted\)",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), ""),
        (MemoryError(), ""),
    ],
)
def test_out_of_memory_gives_the_numbers(error: Exception, known: str) -> None:
    """What is known of the memory, and what to change, in one message."""
    with (
        pytest.raises(UserError, match=rf"^out of memory in training{known}: lower it$"),
        machine.enough_memory(torch.device("cpu"), "lower it"),
    ):
        raise error


@pytest.mark.parametrize("text", ["CUDA error: an illegal memory access was encountered", "expected contiguous memory format"])
def test_other_errors_that_speak_of_memory_are_not_out_of_memory(text: str) -> None:
    """A fault in a kernel stays what it is: lowering the batch size would not help."""
    with pytest.raises(RuntimeError, match=text), machine.enough_memory(torch.device("cpu"), "lower it"):
        raise RuntimeError(text)


def test_compiling_must_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` compiles on a new GPU in a long training, never on a CPU; true and false are obeyed."""
    config = GPT2Config(50_257)
    assert not machine.compiles("auto", "cpu", config, 1024, 10**9)
    assert not machine.compiles(False, "cuda", config, 1024, 10**9)
    monkeypatch.setattr(machine, "has_compiler", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    assert machine.compiles(True, "cpu", config, 1024, 1)
    assert machine.compiles("auto", "cuda", config, 1024, 10**5)
    assert not machine.compiles("auto", "cuda", config, 1024, 100)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert not machine.compiles("auto", "cuda", config, 1024, 10**9)


@pytest.mark.parametrize(("device", "needed"), [("cuda", "Triton and a C compiler"), ("cpu", r"a C\+\+ compiler")])
def test_without_a_compiler_nothing_is_compiled(device: str, needed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch.compile would end in a traceback, `auto` does not compile and `true` is refused with what is missing."""
    monkeypatch.setenv("PATH", "/nowhere")
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    assert not machine.compiles("auto", device, GPT2Config(50_257), 1024, 10**9)
    with pytest.raises(UserError, match=f"compile: true needs {needed}"):
        machine.compiles(True, device, GPT2Config(50_257), 1024, 1)
