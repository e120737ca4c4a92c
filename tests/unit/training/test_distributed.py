"""The launcher: what replaces the process, and what does not; processes that take a step together."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from step_pair import StopAfter, finished, same, state

from stages.common import session
from stages.common.errors import UserError
from stages.training import distributed
from stages.training.distributed import World
from stages.training.trainer import Stopped


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have replaced this process."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execve", lambda program, words, env: commands.append([*words, env[distributed.LAUNCHED]]))
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "--debug"])
    for name in ("RANK", distributed.TORCHRUN, distributed.LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    return commands


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ("torchrun --nproc-per-node 2", ["-m", "torch.distributed.run", "--nproc-per-node", "2"]),
        ("python -X dev", ["-X", "dev"]),
    ],
)
def test_the_stage_starts_again_under_its_launcher(started: list[list[str]], launcher: str, words: list[str]) -> None:
    """The launcher of this environment gets its options, the stage and the stage's own arguments; PATH plays no part."""
    distributed.relaunch(launcher)
    assert started == [[sys.executable, *words, "-m", "stages.train", "--debug", "1"]]


@pytest.mark.parametrize("name", [distributed.TORCHRUN, distributed.LAUNCHED])
def test_a_launched_process_is_not_launched_again(started: list[list[str]], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain python needs no start; a process of torchrun, or one that was started so, does not start again."""
    distributed.relaunch("python")
    monkeypatch.setenv(name, "0")
    distributed.relaunch("torchrun --nproc-per-node 2")
    assert started == []


@pytest.mark.parametrize(
    ("device", "message"), [("cuda:1", "device: cuda:1 is one GPU for 2"), ("cuda", "process 2 .* no GPU")]
)
def test_each_process_has_a_gpu_of_its_own(device: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes on one GPU are refused before any work."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in zip((*session.LAUNCH, "LOCAL_RANK"), ("1", "2", "localhost", "1", "1"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message), distributed.init_process_group(device):
        pass


TOGETHER: dict[str, Any] = {"optimizer": "muon", "epochs": 2, "dropout": 0.0, "keep": "best", "eval_every": 3}
TOGETHER |= {"learning_rate": 0.03}  # random tokens, which it only learns by heart: the best weights are not the last


def _train(rank: int, folder: Path) -> None:
    """One of two processes: a training as it is, and one that is stopped and resumed, with either kind of step; in shards."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    world = World(rank, 2, rank)
    for name, kind, sharding in (("eager", "eager", "ddp"), ("captured", "captured", "ddp"), ("fsdp", "eager", "fsdp")):
        options = TOGETHER | {"kind": kind, "world": world, "sharding": sharding, "launcher": "torchrun"}
        straight = finished(folder / f"{name} straight", **options)
        with pytest.raises(Stopped):
            finished(folder / f"{name} broken", stop=StopAfter(14), **options)
        world.barrier()
        resumed = finished(folder / f"{name} broken", **options)
        assert resumed.resumed > 0
        results = []
        for made in (straight, resumed):
            made.history.samples.clear()  # rank 0's, of which the other process reads those in the checkpoint
            weights = {key: distributed.full_tensor(p).detach() for key, p in made.net.named_parameters()}
            results.append({"weights": weights, "best": made.best if world.is_main else {}, "history": made.history.as_json()})
            if sharding == "ddp":
                results[-1] |= {"moments": state(made)["moments"]}
        assert bool(straight.best) is world.is_main
        assert straight.history.best["step"] < 14, "long before it was stopped"
        same(results[0], results[1])
        torch.save(results[0], folder / f"{name} {rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Two processes with one all-reduce a step, eager or captured, have the same weights at each step to the bit, those of one
    process to rounding, and end with the same bits when they were stopped and started again; in shards too. The first one has
    the best weights."""
    alone = finished(tmp_path / "alone", **TOGETHER)
    mp.spawn(_train, (tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]
    names = [f"{name} {rank}" for name in ("eager", "captured", "fsdp") for rank in (0, 1)]
    states = {name: torch.load(tmp_path / f"{name}.pt") for name in names}
    for name in names[:4]:
        same(states[name]["weights"], states["eager 0"]["weights"])
    same(states["fsdp 0"]["weights"], states["fsdp 1"]["weights"])
    for name in ("eager 0", "fsdp 0"):
        for mine, ours in list(zip(alone.history.training, states[name]["history"]["training"], strict=True))[:8]:
            assert mine["train_loss"] == pytest.approx(ours["train_loss"], rel=1e-4)
            assert mine["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-3)
        assert states[name]["best"].keys() == alone.best.keys()
        for key, value in alone.best.items():
            assert torch.allclose(states[name]["best"][key], value, atol=1e-2)


@pytest.mark.parametrize(
    "left",
    [
        {"RANK": "1"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "0", "MASTER_ADDR": "h"},
        {"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
    ],
)
def test_variables_that_a_platform_leaves_change_nothing(
    left: dict[str, str], started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of torchrun's variables: the launcher is started all the same, and without one training is one process that logs."""
    for name in session.LAUNCH:
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with distributed.init_process_group("cpu") as world:
        assert (world.rank, world.size) == (0, 1)
    distributed.relaunch("torchrun --nproc-per-node 2")
    assert len(started) == 1
