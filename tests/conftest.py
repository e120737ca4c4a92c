"""What the tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytest_plugins = ["reliability.table", "reliability.reference"]
TINY: dict[str, Any] = {  # a pipeline of seconds
    **{"max_samples": 60, "max_val_samples": 12, "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "stride": 32},
    **{
        "batch_size": 4,
        "epochs": 2,
        "warmup_steps": 5,
        "eval_every": 10,
        "checkpoint_every": 7,
        "threads": 1,
        "eval_stride": 16,
    },
    **{"num_samples": 2, "max_new_tokens": 12, "precision": "fp32"},
}
Stage = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a stage that runs in `folder`: the project's code, its own checkpoints, no tracking server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_", "GIT_"))}
    own = {
        "PYTHONPATH": str(ROOT),
        "DVC_ROOT": str(folder),
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "OMP_NUM_THREADS": "1",
    }
    return kept | own | more


def write_params(folder: Path, changes: Mapping[str, Any]) -> None:
    """params.yaml in `folder`: the committed one, made tiny, with these changes."""
    committed = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(committed | TINY | dict(changes)), encoding="utf-8")


def run_stage(
    folder: Path, stage: str, *words: str, prepare: Callable[[], None] | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a stage by hand in `folder`; its process begins with `prepare`."""
    return subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", *words],
        cwd=folder,
        env=environment(folder, **more),
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with params.yaml, data/download and data/tokenize of the tiny pipeline. Copy it; don't write in it."""
    folder = tmp_path_factory.mktemp("tokenized")
    write_params(folder, {})
    for stage in ("download", "tokenize"):
        done = run_stage(folder, stage)
        assert done.returncode == 0, done.stderr
    return folder
