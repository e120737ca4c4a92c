"""Training from a network that transformers wrote: its perplexity before, its losses while it trains, and the best weights."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import gpt2_folder
import numpy as np
import pytest
import torch
from gpt2_folder import NETWORK
from repository import digests
from stage_runs import call_stage, environment, run_stage, write_params

from model import hf
from stages import evaluate, generate, train
from stages.common import files
from stages.common.params import TrainParams, load_params
from stages.corpus.tokens import TokenFile
from stages.training.batches import Batches
from stages.training.optimizer import BETAS
from stages.training.schedule import Schedule

pytestmark = pytest.mark.slow
Project = Callable[..., Path]


@pytest.fixture(scope="module")
def started(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with stories in GPT-2's tokens, and a network to start from."""
    folder = tmp_path_factory.mktemp("started") / "project"
    shutil.copytree(tokenized, folder)
    gpt2_folder.write(folder.parent / "net")
    write_params(folder, NETWORK | {"init_from": "../net"})
    for stage in ("download", "tokenize"):
        done = call_stage(folder, stage)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(started: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Makes copies of it with other params."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr("stages.compute.machine.keep_freed_memory", lambda: None)
    threads = torch.get_num_threads()

    def make(**changes: Any) -> Path:
        folder = Path(shutil.copytree(started, tmp_path / "project", dirs_exist_ok=True))
        write_params(folder, NETWORK | {"init_from": "../net"} | changes)
        return folder

    yield make
    torch.set_num_threads(threads)


def ran(folder: Path, *stages: Any) -> dict[str, Any]:
    """Run stages; the last one's metrics."""
    with chdir(folder):
        for stage in stages:
            stage.main(Namespace(no_log=True, **dict.fromkeys(generate.OPTIONS)))
    name = stages[-1].__name__.rpartition(".")[2]
    return dict(json.loads((folder / f"data/{name}/metrics.json").read_text()))


def theirs(stream: Any, block_size: int, stride: int) -> float:
    """transformers' perplexity of a stream of tokens, with a sliding window as its page "Perplexity of fixed-length models"."""
    net = gpt2_folder.write(Path("theirs"))
    nats, done, targets = 0.0, 0, len(stream) - 1
    begin = 0
    while done < targets:
        begin = min(begin, targets - block_size)
        window = torch.from_numpy(stream[begin : begin + block_size + 1].astype(np.int64))[None]
        with torch.no_grad():
            losses = torch.nn.functional.cross_entropy(net(window[:, :-1]).logits[0], window[0, 1:], reduction="none")
        new = begin + block_size - done
        nats, done = nats + float(losses[-new:].double().sum()), begin + block_size
        begin += stride
    return math.exp(nats / targets)


def test_zero_epochs_score_the_network_as_transformers_does(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """`epochs: 0`: perplexity to six digits of transformers', the difference to the network before is 0, tables have a head."""
    folder = project(epochs=0)
    metrics = ran(folder, train, evaluate)
    monkeypatch.chdir(folder)
    stream = TokenFile.open(folder / "data/tokenize", "validation").stream
    expected = theirs(stream, block_size=32, stride=16)
    assert metrics["perplexity"] == pytest.approx(expected, rel=1e-6)
    assert metrics["initial_perplexity"] == metrics["perplexity"]
    assert metrics["gain_over_initial"] == metrics["gain_over_initial_low"] == metrics["gain_over_initial_high"] == 0
    assert files.read_csv(folder / "data/train/history.csv", "train") == []
    assert (folder / "data/train/history.csv").read_text().startswith("step,tokens,epoch,train_loss")
    assert [row["step"] for row in files.read_csv(folder / "data/train/validation.csv", "train")] == [0]
    assert "train_loss" not in json.loads((folder / "data/train/metrics.json").read_text())


def test_fifty_steps_have_transformers_losses(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same batches and AdamW: each of fifty losses equals that of a plain loop around transformers' network, to 1e-4."""
    folder = project(epochs=3, learning_rate=0.001, min_learning_rate="1/10")
    ran(folder, train)
    monkeypatch.chdir(folder)
    params = load_params(TrainParams)
    batches = Batches.of(params, TokenFile.open(folder / "data/tokenize", "train").stream)
    schedule = Schedule.of(params, batches.steps_per_epoch)
    net = gpt2_folder.write(Path("theirs")).train()
    names = dict(net.named_parameters())
    decayed = [p for name, p in names.items() if p.dim() >= 2 and "wpe" not in name]
    others = [p for name, p in names.items() if p.dim() < 2 or "wpe" in name]
    groups = [{"params": decayed, "weight_decay": params.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=BETAS)
    ours = [row["train_loss"] for row in files.read_csv(folder / "data/train/history.csv", "train")][:50]
    assert len(ours) == 50
    for step, loss_of_ours in enumerate(ours):
        inputs, targets = batches.read(batches.starts(step))
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr(step)
        loss = torch.nn.functional.cross_entropy(net(inputs).logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(names.values(), params.grad_clip)
        optimizer.step()
        assert loss_of_ours == pytest.approx(loss.item(), abs=1e-4), f"step {step}"


def test_before_and_after(project: Project) -> None:
    """evaluate has the perplexity before training and what it gained, with intervals; generate has a sample from before."""
    folder = project(epochs=1)
    metrics = ran(folder, train, evaluate)
    before, after = (math.log(metrics[key]) for key in ("initial_perplexity", "perplexity"))
    assert metrics["gain_over_initial"] == pytest.approx(before - after)
    assert metrics["gain_over_initial_low"] < metrics["gain_over_initial"] < metrics["gain_over_initial_high"]
    assert metrics["initial_perplexity_low"] < metrics["initial_perplexity"] < metrics["initial_perplexity_high"]
    report = (folder / "data/evaluate/report.md").read_text()
    assert "before training" in report and "training improved the network that it started from" in report
    ran(folder, generate)
    page = (folder / "data/generate/samples.md").read_text()
    assert page.index("## Before training") < page.index("## 1")
    assert "## 3" not in page
    card = (folder / "data/train/model/README.md").read_text()
    assert "| first weights | `net` |" in card


def test_the_best_weights_are_those_of_the_best_evaluation(
    project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`keep: best` gives the weights of the lowest validation loss: here those before the first step, which only harm."""
    ran(project(epochs=1, learning_rate=0.1, min_learning_rate="1/1"), train)
    learned = Path(shutil.move(tmp_path / "project/data/train/model", tmp_path / "learned"))

    def harmed(**changes: Any) -> Path:
        folder = project(epochs=1, learning_rate=0.8, min_learning_rate="1/1", **changes)
        for name in ("config.json", "model.safetensors"):
            shutil.copyfile(learned / name, folder / "data/download/init" / name)
        return folder

    last = ran(harmed(), train)
    said = capsys.readouterr().out
    assert "kept: the weights of the last step, 23, not of step 0" in said and "keep: best keeps those" in said
    assert "best_step" not in last
    folder = harmed(keep="best")
    best = ran(folder, train)
    assert "kept: the weights of step 0, which has the lowest validation loss" in capsys.readouterr().out
    assert best["best_step"] == 0 and best["val_loss"] == last["val_loss"] > best["best_val_loss"]
    kept = hf.load(folder / "data/train/model").state_dict()
    start = hf.load(folder / "data/download/init", block_size=32).state_dict()
    assert all(torch.equal(kept[name], start[name]) for name in start)
    assert ran(folder, evaluate)["gain_over_initial"] == 0
    assert "Overfitted" in (folder / "data/evaluate/report.md").read_text()


def test_a_fine_tuning_that_was_killed_ends_with_the_same_bytes(project: Project, tmp_path: Path) -> None:
    """kill -9 with `keep: best`: started again it resumes from a checkpoint, to the same bytes as one that was not killed."""
    folder = project(keep="best", epochs=2, eval_every=4, checkpoint_every=5, learning_rate=0.1, min_learning_rate="1/1")
    killed = Path(shutil.copytree(folder, tmp_path / "killed"))
    ran(folder, train)
    words = [sys.executable, "-m", "stages.train", "--no-log"]
    with subprocess.Popen(words, cwd=killed, env=environment(killed), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(killed.glob(".checkpoints/*/step-*-*.safetensors")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode < 0, "it was too late"
    again = run_stage(killed, "train", "--no-log")
    assert "resuming from step" in again.stdout, again.stderr
    assert digests(killed / "data/train") == digests(folder / "data/train")
    assert json.loads((killed / "data/train/metrics.json").read_text())["best_step"] > 0
