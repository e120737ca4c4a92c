"""The runtime sets a process up without costing it anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from stage_runs import ROOT

from stages.common.errors import UserError
from stages.compute import machine

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


@pytest.mark.skipif(not SWITCH.exists() or "[never]" in SWITCH.read_text(), reason="no huge pages on this system")
def test_large_buffers_are_in_huge_pages() -> None:
    """After the set-up, which takes no memory itself, a large buffer lies in huge pages."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True)
    taken, huge = map(int, done.stdout.split())
    assert taken < 8 << 10  # KiB
    assert huge > 64 << 10


QUOTAS: dict[str, tuple[str, dict[str, str], int]] = {  # /proc/self/cgroup, files of the groups, cores
    "none": ("0::/", {"cpu.max": "max 100000"}, 4),
    "one core": ("0::/", {"cpu.max": "100000 100000"}, 1),
    "half a core": ("0::/", {"cpu.max": "50000 100000"}, 1),
    "two and a half": ("0::/", {"cpu.max": "250000 100000"}, 2),
    "more than there are": ("0::/", {"cpu.max": "800000 100000"}, 4),
    "a group around it": ("0::/pod/box", {"pod/cpu.max": "200000 100000", "pod/box/cpu.max": "max 100000"}, 2),
    "a service": ("0::/system.slice/job.service", {"system.slice/job.service/cpu.max": "300000 100000"}, 3),
    "another's path, as in a container": ("0::/../elsewhere", {"cpu.max": "100000 100000"}, 1),
    "version 1": (
        "5:memory:/a\n4:cpu,cpuacct:/a\n",
        {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"},
        2,
    ),
    "version 1, no limit": ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
    "not readable": ("nonsense", {"cpu.max": "nonsense"}, 4),
}


@pytest.mark.kind("odd environment")
@pytest.mark.parametrize("kind", QUOTAS)
def test_all_cores_are_those_of_the_quota(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with a quota of time, as `docker run --cpus`, Kubernetes and systemd set it, has no more threads."""
    proc, files, cores = QUOTAS[kind]
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n")
    (tmp_path / "self").write_text(proc)
    assert machine.usable_cores(tmp_path / "self", tmp_path / "cgroup") == cores


def test_without_control_groups_all_cores_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS; a number of threads that was asked for is taken as it is."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    assert machine.usable_cores(tmp_path / "none", tmp_path) == 3


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


EXACT = """
import torch
from stages.compute import machine

machine.prefer_exact_cuda()
assert torch.are_deterministic_algorithms_enabled()
assert not torch.is_deterministic_algorithms_warn_only_enabled()
assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
assert not torch.backends.cuda.cudnn_sdp_enabled() and not torch.backends.cuda.mem_efficient_sdp_enabled()
with machine.any_kernel():
    assert not torch.are_deterministic_algorithms_enabled()
assert torch.are_deterministic_algorithms_enabled()
"""


def test_exact_is_not_a_warning() -> None:
    """Exact means exact: an operation without a deterministic kernel is an error, but for what the bits do not depend on."""
    subprocess.run([sys.executable, "-c", EXACT], cwd=ROOT, check=True)
