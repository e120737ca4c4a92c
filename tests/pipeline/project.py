"""A copy of this project, small enough to run whole in seconds, with a DVC and an MLflow of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools.verify import TINY

HERE = Path(__file__).parents[2]
OUTER = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI", "RANK")
CURVES = ("train_loss", "val_loss", "learning_rate", "grad_norm", "epoch", "epoch_train_loss", "epoch_val_loss")


@dataclass
class Project:
    """The copy in `folder`; `env` is added to the environment of what runs there."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @classmethod
    def copy(cls, folder: Path, **params: Any) -> Project:
        """Copy what git knows or would add here, not what is ignored, and commit it with tiny params."""
        listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], HERE).stdout
        for name in filter(None, listed.split("\0")):
            if (HERE / name).is_file() and not name.startswith(("tests/", "data/", "dvc.lock")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(HERE / name, folder / name)
        project = cls(folder)
        project.set(**(TINY | params))
        for words in ("init -q -b main", "config user.name t", "config user.email t@t", "add -A", "commit -q -m start"):
            _run(["git", *words.split()], folder)
        return project

    def set(self, **params: Any) -> None:
        """Change values in params.yaml by hand, keeping its comments."""
        path = self.folder / "params.yaml"
        lines = path.read_text(encoding="utf-8").splitlines()
        for key, value in params.items():
            (at,) = [i for i, line in enumerate(lines) if line.startswith(f"{key}:")]
            lines[at] = yaml.safe_dump({key: value}, default_flow_style=False).strip()
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def commit(self) -> None:
        """Commit what lies there, dvc.lock and metrics too."""
        _run(["git", "add", "-A"], self.folder)
        _run(["git", "commit", "-q", "--allow-empty", "-m", "more"], self.folder)

    def dvc(self, *words: str, ok: bool = True) -> str:
        """Run a DVC command and return what it says; `ok`: whether it must succeed or must fail."""
        return self.python("-m", "dvc", *words, ok=ok)

    def python(self, *words: str, ok: bool = True) -> str:
        """Run Python in the project."""
        done = _run([sys.executable, *words], self.folder, self.environment(), check=False)
        text = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, f"exit {done.returncode} of {' '.join(words)}:\n{text}"
        return text

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a DVC command as a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *words],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def checkpointed(self) -> bool:
        """Whether an unfinished training has saved itself."""
        return any((self.folder / ".checkpoints").glob("*/step-*-*.safetensors"))

    def runs(self, uri: str | None = None) -> list[Recorded]:
        """The MLflow runs, oldest first."""
        from mlflow import MlflowClient

        if uri is None and not (self.folder / "mlflow.db").exists():
            return []
        client = MlflowClient(uri or f"sqlite:///{self.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("gpt2-from-scratch")
        if experiment is None:
            return []
        found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
        return [Recorded(client, run) for run in found]

    def environment(self) -> dict[str, str]:
        """What commands in the project see."""
        kept = {key: value for key, value in os.environ.items() if key not in OUTER}
        return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | self.env


class Recorded:
    """An MLflow run as the tests look at it."""

    def __init__(self, client: Any, run: Any) -> None:
        self.client, self.id, self.name, self.status = client, run.info.run_id, run.info.run_name, run.info.status
        self.tags, self.params, self.metrics = run.data.tags, run.data.params, run.data.metrics
        self.inputs = run.inputs.dataset_inputs

    @property
    def complete(self) -> bool:
        """Whether the pipeline says so."""
        return bool(self.tags.get("pipeline.complete") == "yes")

    def steps(self, key: str) -> list[int]:
        """The steps that a metric was logged for."""
        return [point.step for point in self.client.get_metric_history(self.id, key)]

    def artifacts(self, folder: str | None = None) -> list[str]:
        """The paths of all files kept with the run."""
        found = []
        for item in self.client.list_artifacts(self.id, folder):
            found += self.artifacts(item.path) if item.is_dir else [item.path]
        return found

    def text(self, name: str, folder: Path) -> str:
        """An artifact's text."""
        return Path(self.client.download_artifacts(self.id, name, str(folder))).read_text(encoding="utf-8")

    def table(self, name: str) -> list[dict[str, Any]]:
        """A table's rows."""
        with tempfile.TemporaryDirectory() as folder:
            table = json.loads(self.text(name, Path(folder)))
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]

    def stages(self) -> dict[str, str]:
        """How each stage came to its result: ran or cached."""
        return {key.removeprefix("stage."): value for key, value in self.tags.items() if key.startswith("stage.")}


def assert_complete(run: Recorded, project: Project, by_dvc: bool = True) -> None:
    """A run has everything: params, whole curves without a doubled point, metrics, samples, plots, what it was made from.

    That holds whichever stages came from the cache. Of stages run by hand (`by_dvc` False) it does not say what it cannot know:
    the outputs' checksums, and how each stage came to its result.
    """
    assert run.complete
    assert run.status == "FINISHED"
    total = int(run.metrics["steps"])
    params = yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8"))
    assert set(run.params) == set(params)
    for key in CURVES:
        steps = run.steps(key)
        assert steps, key
        assert sorted(steps) == sorted(set(steps)), f"{key}: doubled points"
    assert sorted(run.steps("train_loss")) == rows_of_history(total)
    for key in ("perplexity", "perplexity_low", "perplexity_high", "train_perplexity", "final_train_loss", "parameters"):
        assert key in run.metrics
    kept = set(run.artifacts())
    assert {"params.yaml", "samples/samples.md", "samples/samples.json", "plots/loss.png"} <= kept
    assert any(name.startswith("plots/") and name.endswith(".csv") for name in kept)
    sums = {"md5.model", "md5.train_stories", "md5.validation_stories", "md5.train_tokens", "md5.validation_tokens"}
    if by_dvc:
        assert "dvc.lock" in kept
        assert sums <= set(run.tags)
        assert set(run.stages()) == {"download", "tokenize", "train", "evaluate", "generate"}
        for stage, how in run.stages().items():
            assert (f"seconds_{stage}" in run.metrics) is (how == "ran"), stage
    else:
        assert "dvc.lock" not in kept
        assert not sums & set(run.tags)
        assert run.stages() == {"train": "ran"}
    assert {"git.commit", "git.dirty", "command"} <= set(run.tags)
    assert {f"machine.{key}" for key in ("device", "cpu", "torch", "threads", "precision", "host")} <= set(run.tags)
    assert run.tags["reproduce"] == f"make reproduce RUN={run.id}"
    note = run.tags["mlflow.note.content"]
    assert run.tags["command"] in note
    assert "validation perplexity" in note
    (data,) = run.inputs
    assert (data.dataset.name, data.tags[0].value) == (params["dataset"], "training")
    texts = run.table("samples/samples.json")
    prompts = [params["prompt"]] if isinstance(params["prompt"], str) else params["prompt"]
    assert len(texts) == params["num_samples"] * len(prompts)
    assert all(row["text"].startswith(tuple(prompts)) for row in texts)


def assert_watched(run: Recorded) -> None:
    """A run that was logged while it trained: its speed, and the sample texts of each evaluation, none twice."""
    assert sorted(run.steps("tokens_per_second")) == sorted(run.steps("train_loss"))
    evaluated = sorted(run.steps("val_loss"))
    assert [name for name in run.artifacts("samples") if "step" in name] == [
        f"samples/step-{step:07d}.md" for step in evaluated
    ]
    texts = run.table("samples/while_training.json")
    assert [row["step"] for row in texts] == [step for step in evaluated for _ in range(2)]


def rows_of_history(steps: int) -> list[int]:
    """The steps that a training of so many steps logs: all, or at most some thousand, and the last."""
    every = max(1, steps // 1000)
    return sorted({*range(every, steps + 1, every), steps})


def wait_for(what: Callable[[], Any], seconds: float = 900.0) -> None:
    """Wait until `what()` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Send a signal to a process and all in its group, as a terminal does."""
    os.killpg(process.pid, number)


def _run(
    words: list[str], folder: Path, env: Mapping[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=check)
