"""On one kind of GPU a training gives the same bytes: twice, and after kill -9."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from repository import digests
from stage_runs import environment, run_stage, write_params

from model.attention import has_flash
from model.gpt2 import RACE

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
BASE: dict[str, Any] = {"device": "cuda", "precision": "auto", "dropout": 0.1, "batch_size": 3, "grad_accumulation": 2}
CASES: dict[str, dict[str, Any]] = {
    "dropout and accumulation": {},
    "one micro-batch": {"dropout": 0.0, "grad_accumulation": 1},
    "muon": {"optimizer": "muon"},
    "fp32": {"precision": "fp32"},
    "fp16": {"precision": "fp16"},
    "compiled": {"compile": True},
    "a batch of 2,560 tokens": {"batch_size": 20, "block_size": 128, "stride": 32},  # PyTorch's embedding gradient has a race
    "a batch beyond 3,072 tokens": {"batch_size": 32, "block_size": 128, "stride": 32},  # and here another kernel
    "long context": {"block_size": 1_030, "stride": 1_030, "eval_stride": 16, "batch_size": 1},
}


@pytest.fixture(scope="module")
def project(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes copies of the tokenized project with these params."""

    def make(**changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("project")
        shutil.copytree(tokenized, folder, dirs_exist_ok=True)
        write_params(folder, BASE | changes)
        return folder

    return make


def train(folder: Path) -> dict[str, str]:
    """Train to the end; no warning, no fallback."""
    done = run_stage(folder, "train")
    assert done.returncode == 0, done.stderr
    assert "could not be" not in done.stderr
    assert "UserWarning" not in done.stderr
    assert "of the GPU's measured limit" in done.stdout
    return digests(folder / "data/train")


@pytest.mark.parametrize("case", CASES)
def test_twice_the_same_bytes(project: Callable[..., Path], case: str) -> None:
    """Two processes that train the same thing write the same model, history and metrics."""
    if case == "compiled" and not has_flash(torch.device("cuda:0")):
        pytest.skip("not compiled on this GPU")
    if "tokens" in case:
        assert (CASES[case]["batch_size"] * CASES[case]["block_size"] in RACE) == ("beyond" not in case)
    folders = project(**CASES[case]), project(**CASES[case])
    assert train(folders[0]) == train(folders[1])


@pytest.mark.parametrize("case", ["dropout and accumulation", "muon", "fp16"])
def test_killed_and_resumed_is_undisturbed(project: Callable[..., Path], case: str) -> None:
    """kill -9 at random moments, with a save after each step: the end is the undisturbed training's, byte for byte."""
    reference, folder = (project(**CASES[case], checkpoint_every=1, epochs=8) for _ in range(2))
    expected = train(reference)
    moments, kills = random.Random(7), 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "stages.train"],
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        saved = set(folder.glob(".checkpoints/*/step-*-*.safetensors"))
        while process.poll() is None and set(folder.glob(".checkpoints/*/step-*-*.safetensors")) <= saved:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.3))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait(600) == 0:
            break
    assert kills >= 1
    if not (folder / "data/train/metrics.json").exists():
        train(folder)
    assert digests(folder / "data/train") == expected
