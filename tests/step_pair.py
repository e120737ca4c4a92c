"""A training with either kind of step, and how two trainings are compared bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from conftest import ROOT, TINY

from model import GPT2, GPT2Config
from stages.common.params import parse_params
from stages.training.checkpoint import Checkpoints
from stages.training.distributed import World
from stages.training.optimizer import make_optimizers
from stages.training.step import CapturedStep, EagerStep, Recorder, Replay
from stages.training.trainer import Trainer

COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STREAM = np.random.default_rng(0).integers(0, 50, 1_500, dtype=np.uint16)  # 47 windows: the last step of an epoch is smaller


def replayed(run: Replay) -> Replay:
    """A recorder without a GPU: some steps of warm-up, and then each replay is the step itself, on the same buffers."""
    for _ in range(3):
        run()
    return run


def trainer(
    folder: Path, kind: str, precision: str = "fp32", device: str = "cpu", record: Recorder | None = replayed, **changes: Any
) -> Trainer:
    """A training whose steps are `eager` or `captured`, with the same (static) optimizers."""
    params = parse_params(COMMITTED | TINY | {"dropout": 0.1, "batch_size": 3, "grad_accumulation": 2} | changes)
    torch.manual_seed(params.seed)
    shape: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": params.dropout}
    net = GPT2(GPT2Config(50, block_size=params.block_size, position="sinusoidal", **shape)).to(device)
    made = Trainer(params, net, STREAM, STREAM[:300], precision, World(), Checkpoints(folder))
    made.optimizers = make_optimizers(net, params.optimizer, 1.0, params.weight_decay, precision, static=True)
    make = (made.module, made.optimizers, precision, World(), params.seed, params.grad_clip)
    made.take = CapturedStep(*make, whole=6, compiled=made.compiled, record=record) if kind == "captured" else EagerStep(*make)
    return made


def state(made: Trainer) -> dict[str, Any]:
    """All that a training has: weights, moments, scale, measurements."""
    weights = {name: p.detach().clone() for name, p in made.net.named_parameters()}
    moments = [[copy.deepcopy(values) for values in optimizer.state.values()] for optimizer in made.optimizers]
    return {"weights": weights, "moments": moments, "scale": made.take.scaler.state_dict(), "history": made.history.as_json()}


def same(one: Any, other: Any) -> None:
    """Equal to the bit, whatever they are made of."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        for left, right in zip(one, other, strict=True):
            same(left, right)
    else:
        assert one == other
