"""What decides the bits of a training is among its facts, and what differs is named."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from stage_runs import ROOT

from stages.training import identity

pytestmark = pytest.mark.kind("checkpoint that may not be used")
SETTINGS = {
    "MKL_CBWR": "COMPATIBLE",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "ATEN_CPU_CAPABILITY": "avx2",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2",
    "NPY_DISABLE_CPU_FEATURES": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NVIDIA_TF32_OVERRIDE": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "TORCHINDUCTOR_MAX_AUTOTUNE": "1",
}
HARMLESS = ("MKL_VERBOSE", "DNNL_VERBOSE", "TORCHINDUCTOR_CACHE_DIR", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCH_HOME")


def facts() -> dict[str, str]:
    """On this machine."""
    return identity.machine_facts("cpu", "fp32", 1, 1)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_changes_kernels_is_a_fact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable by which a library chooses other kernels gives another key, and stands in the run's facts."""
    monkeypatch.delenv(name, raising=False)
    before = facts()
    monkeypatch.setenv(name, SETTINGS[name])
    assert f"{name}={SETTINGS[name]}" in facts()["environment"]
    assert identity.make_key({"machine": before}) != identity.make_key({"machine": facts()})


def test_what_changes_no_bit_is_not_a_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster gives each job other folders and levels of logging: its trainings are resumed all the same."""
    before = facts()
    for name in HARMLESS:
        monkeypatch.setenv(name, "/scratch/job-4711")
    assert facts() == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have another OpenMP")
@pytest.mark.parametrize(("limit", "threads"), [("1", "1"), ("", "2")])
def test_the_threads_recorded_are_those_that_work(limit: str, threads: str) -> None:
    """OMP_THREAD_LIMIT is obeyed and reported as fewer threads; with OMP_DYNAMIC the machine's load would choose: it is off."""
    script = (
        "import stages, ctypes\nfrom stages.compute.machine import set_threads\n"
        "print(set_threads(2), ctypes.CDLL(None).omp_get_dynamic())"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    env = kept | {"OMP_DYNAMIC": "true"} | ({"OMP_THREAD_LIMIT": limit} if limit else {})
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert said.stdout.split() == [threads, "0"]
