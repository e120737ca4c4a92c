"""Training is exact: resumed, evaluated, distributed or interrupted, it ends with the same bytes."""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from repository import digests
from stage_runs import environment, run_python, run_stage, write_params
from step_pair import StopAfter, finished, same, state, trainer
from tiny import trained

from model import GPT2
from stages import train
from stages.common.errors import UserError
from stages.compute import machine
from stages.training.checkpoint import Checkpoints, State
from stages.training.identity import make_key
from stages.training.live_run import LiveRun
from stages.training.signals import Stop
from stages.training.trainer import Stopped

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(("kind", "precision"), [("eager", "fp32"), ("captured", "fp16")])
@pytest.mark.parametrize("at", [3, 8, 9])  # inside an epoch of 8 steps, at its end, behind it
def test_resumed_is_uninterrupted(tmp_path: Path, at: int, kind: str, precision: str, optimizer: str) -> None:
    """Stop after any step and resume: weights, moments and history equal the uninterrupted run's, at zero tolerance.

    With dropout and gradient accumulation, in one epoch, at its end and in the next one; in fp16 with the loss's scale.
    """
    options: dict[str, Any] = {"kind": kind, "precision": precision, "optimizer": optimizer}
    straight = finished(tmp_path / "straight", **options)
    assert straight.schedule.steps_per_epoch == 8
    with pytest.raises(Stopped):
        finished(tmp_path / "broken", stop=StopAfter(at), **options)
    resumed = finished(tmp_path / "broken", **options)
    assert resumed.resumed > 0
    same(state(straight), state(resumed))
    steps = [row["step"] for row in straight.history.validation]
    assert [row["step"] for row in straight.history.samples] == [0, *steps]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_runs_are_one(tmp_path: Path, precision: str) -> None:
    """The same training twice gives the same bits, in fp32 and in bf16."""
    same(*(state(finished(tmp_path / folder, precision=precision)) for folder in ("a", "b")))


def test_evaluation_is_inert(tmp_path: Path) -> None:
    """Evaluating often or never, saving often or never: identical weights, with dropout."""
    often = finished(tmp_path / "often", eval_every=1, checkpoint_every=1)
    never = finished(tmp_path / "never", eval_every=0, checkpoint_every=1000)
    same(state(often)["weights"], state(never)["weights"])
    assert often.history.training == never.history.training
    assert len(often.history.validation) > len(never.history.validation) == 2


def test_divergence_stops_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    """A loss that is not finite ends the training, names the step, what to do, and leaves finite weights behind."""

    class Poison(LiveRun):
        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            if step == 5:
                with torch.no_grad():
                    made.net.ln_f.weight[0] = math.nan

    made = trainer(tmp_path / "ck", run=Poison(None), checkpoint_every=2)
    with made.checkpoints:
        with pytest.raises(UserError, match=r"diverged at step 6.*[Ll]ower learning_rate"):
            made.fit(Stop())
        fresh = trainer(tmp_path / "ck")
        saved = fresh.checkpoints.restore(fresh.net, fresh.step_parts.optimizers)
        assert saved is not None
        assert saved.step == 4
        assert all(torch.isfinite(p).all() for p in fresh.net.parameters())


@pytest.mark.parametrize(("batch", "advice"), [(4, "batch_size from 4 to 2"), (1, "block_size from 32 to 16")])
def test_out_of_memory_says_what_to_lower(tmp_path: Path, batch: int, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory ends in one sentence that says which key to lower, and to what."""

    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123 bytes")

    monkeypatch.setattr(GPT2, "loss", fail)
    with pytest.raises(UserError, match=advice):
        finished(tmp_path, batch_size=batch)


@pytest.mark.parametrize("damage", ["cut short", "one bit", "emptied"])
def test_damaged_checkpoint_is_passed_over(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A truncated or changed checkpoint is recognized, said, and the one before it is used."""
    with Checkpoints(tmp_path / "ck") as checkpoints:
        for step in (1, 2):
            checkpoints.save(State(step, {"rows": [step]}), *trained(seed=step))
        newest = checkpoints.wait()
        assert newest is not None
        content = newest.read_bytes()
        flipped = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        newest.write_bytes({"cut short": content[: len(content) // 2], "one bit": flipped, "emptied": b""}[damage])
        net, optimizers = trained(seed=3)
        state = checkpoints.restore(net, optimizers)
        assert state == State(1, {"rows": [1]})
        assert "damaged" in capsys.readouterr().err
        first, _ = trained(seed=1)
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), first.parameters(), strict=True))


def test_another_training_has_another_key() -> None:
    """Any change of params, data, code or machine gives another folder: a foreign checkpoint is never picked up."""
    facts = {"params": {"lr": 1}, "tokens": {"a": "b"}, "code": "c", "machine": {"threads": "2"}}
    keys = {make_key(facts)} | {make_key(facts | {name: "other"}) for name in facts}
    assert len(keys) == 5


def _train(folder: Path) -> Path:
    """Run the stage train in this process, without MLflow, and return its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DVC_ROOT", raising=False)
        patch.setattr(machine, "keep_freed_memory", lambda: None)
        patch.chdir(folder)
        train.main(Namespace(no_log=True))
    assert not list((folder / ".checkpoints").iterdir()), "checkpoints are removed after success"
    return folder


@pytest.fixture(scope="module")
def project(tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes copies of the tokenized project with other params."""

    def make(**changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("project")
        shutil.copytree(tokenized, folder, dirs_exist_ok=True)
        write_params(folder, {"dropout": 0.1} | changes)
        return folder

    return make


@pytest.fixture(scope="module")
def undisturbed(project: Callable[..., Path]) -> dict[str, str]:
    """What the stage train leaves when nothing happens to it."""
    return digests(_train(project()) / "data" / "train")


def _start(folder: Path) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, "-m", "stages.train", "--no-log"], subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=pipe, stderr=pipe, text=True)


def _wait_for_checkpoint(folder: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not list(folder.glob(".checkpoints/*/step-*-*.safetensors")):
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_and_says_how_to_resume(
    project: Callable[..., Path], undisturbed: dict[str, str], number: signal.Signals
) -> None:
    """SIGTERM, Ctrl-C and Slurm's warning save, say what to type, end with a non-zero exit; the next start ends with the same
    bytes."""
    folder = project()
    process = _start(folder)
    _wait_for_checkpoint(folder, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "dvc repro" in err
    assert "Traceback" not in err
    again = run_stage(folder, "train", "--no-log")
    assert again.returncode == 0, again.stderr
    assert "resuming from step" in again.stdout
    assert digests(folder / "data" / "train") == undisturbed


@pytest.mark.slow
def test_kill_while_saving_loses_nothing(project: Callable[..., Path], undisturbed: dict[str, str]) -> None:
    """kill -9 at random moments, with a save after every step: the end is byte-identical, model, history and metrics."""
    folder = project()
    write_params(folder, {"dropout": 0.1, "checkpoint_every": 1})
    reference = project()
    write_params(reference, {"dropout": 0.1, "checkpoint_every": 1})
    _train(reference)
    moments = random.Random(7)
    kills = 0
    for _ in range(6):
        process = _start(folder)
        _wait_for_checkpoint(folder, process)
        time.sleep(moments.uniform(0.0, 0.25))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate(timeout=600)
        if process.returncode == 0:
            break
    assert kills >= 1
    if not (folder / "data" / "train" / "metrics.json").exists():
        done = run_stage(folder, "train", "--no-log")
        assert done.returncode == 0, done.stderr
    ours, theirs = digests(folder / "data" / "train"), digests(reference / "data" / "train")
    assert ours == theirs
    weights = "model/model.safetensors"
    assert ours[weights] == undisturbed[weights], "saving more often changes no weight"


def _torchrun(folder: Path, processes: int) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return run_python([*torchrun, "-m", "stages.train", "--no-log"], folder)


TOGETHER = {"dropout": 0.0, "batch_size": 3, "grad_accumulation": 2}


@pytest.fixture(scope="module")
def alone(project: Callable[..., Path]) -> Callable[[str], Path]:
    """Where one process has trained with an optimizer."""

    return cache(lambda optimizer: _train(project(**TOGETHER, optimizer=optimizer)))


@pytest.mark.slow
@pytest.mark.parametrize(("sharding", "optimizer"), [("ddp", "adamw"), ("fsdp", "adamw"), ("fsdp", "muon")])
def test_two_processes_train_as_one(
    project: Callable[..., Path], alone: Callable[[str], Path], sharding: str, optimizer: str
) -> None:
    """Two processes (DDP or FSDP2 on gloo) see the same global batches: the same losses within float tolerance, one writer."""
    one = alone(optimizer)
    two = project(**TOGETHER, optimizer=optimizer, sharding=sharding, launcher="torchrun --nproc-per-node 2")
    double = _torchrun(two, 2)
    assert double.returncode == 0, double.stderr
    for name in ("history", "validation"):
        table = [(folder / "data" / "train" / f"{name}.csv").read_text().splitlines() for folder in (one, two)]
        assert table[0][0] == table[1][0]
        for left, right in zip(table[0][1:], table[1][1:], strict=True):
            assert [float(x) for x in left.split(",")] == pytest.approx(
                [float(x) for x in right.split(",")], rel=2e-3, abs=1e-5
            )
    assert json.loads((two / "data/train/metrics.json").read_text())["parameters"] > 0
    assert double.stdout.count("trained to step") == 1
    written = [json.loads(line) for line in (two / "data/train/samples.jsonl").read_text().splitlines()]
    steps = [] if sharding == "fsdp" else [0, *(int(line.split(",")[0]) for line in table[1][1:])]  # no process has all of it
    assert [row["step"] for row in written] == steps
    assert all(len(row["texts"]) == 2 for row in written)
