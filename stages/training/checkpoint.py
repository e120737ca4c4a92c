"""Checkpoints: the whole state of an unfinished training, written so that no crash can damage it.

Each checkpoint is one safetensors file whose name ends in its own checksum. It is written under another name, synced, and
renamed, so a file under its final name is whole; one whose checksum is not that of its name is skipped. They are kept in
ROOT/.checkpoints/<key>, outside DVC's outputs, which DVC deletes before a stage starts. The key is a hash of everything that
decides the bits.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from stages.common.files import Lock, atomic, digest
from stages.training.distributed import full_tensor, shard_like

KEEP = 2  # checkpoints to keep: the newest, and a spare in case its file is damaged


@dataclass
class State:
    """Where a training stands, beside its weights.

    Attributes:
        step: optimizer steps done.
        history: all that was measured so far, as JSON values.
        scaler: of the loss in fp16, see torch.amp.GradScaler; empty in other precisions.
    """

    step: int
    history: dict[str, Any]
    scaler: dict[str, float] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one training in one folder. Use as a context: it is locked against a second training.

    Args:
        folder: ROOT/.checkpoints/<key>.
        writes: False for the processes that only read (all but rank 0); they take no lock.
    """

    def __init__(self, folder: Path, writes: bool = True) -> None:
        self.folder, self.writes = folder, writes
        self._lock = Lock(f"{folder}.lock")

    def __enter__(self) -> Checkpoints:
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                print("the same training runs already in another process; waiting for it", file=sys.stderr)
                self._lock.acquire()
            self.folder.mkdir(parents=True, exist_ok=True)  # the other one may have removed it at its end
        return self

    def __exit__(self, *_: object) -> None:
        if self.writes:
            self._lock.release()

    def save(self, state: State, net: nn.Module, optimizers: list[Optimizer]) -> Path | None:
        """Write a checkpoint and delete all but the newest KEEP."""
        tensors = {f"net.{key}": full_tensor(value).detach().cpu() for key, value in net.state_dict().items()}
        for key, state_of in _optimizer_state(net, optimizers).items():
            tensors |= {f"optimizer.{key}.{name}": full_tensor(value).detach().cpu() for name, value in state_of.items()}
        if not self.writes:
            return None
        partial = self.folder / f"step-{state.step:010d}.safetensors"
        with atomic(partial) as temporary:
            save_file(_untied(tensors), temporary, metadata={"state": json.dumps(asdict(state))})
        final = partial.with_name(f"{partial.stem}-{digest(partial)}.safetensors")
        partial.replace(final)
        for old in self._files()[KEEP:]:
            old.unlink()
        return final

    def restore(self, net: nn.Module, optimizers: list[Optimizer]) -> State | None:
        """Load the newest valid checkpoint into the network and the optimizers; None if there is none."""
        for path in self._files():
            if not _valid(path):
                print(f"checkpoint {path.name} is damaged; trying the one before", file=sys.stderr)
                continue
            with safe_open(path, framework="pt", device="cpu") as file:
                header = json.loads(file.metadata()["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            _load(net, optimizers, tensors)
            return State(**header)
        return None

    def remove(self) -> None:
        """Forget this training: it is done, its outputs are DVC's now."""
        if self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                Path(self._lock.lock_file).unlink()

    def _files(self) -> list[Path]:
        """The finished checkpoints, newest first."""
        return sorted(self.folder.glob("step-*-*.safetensors"), reverse=True)


def _optimizer_state(net: nn.Module, optimizers: list[Optimizer]) -> dict[str, dict[str, Tensor]]:
    """What the optimizers remember of each parameter (moments, steps), by the parameter's name."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in net.named_parameters()}
    return {names[parameter]: state for optimizer in optimizers for parameter, state in optimizer.state.items()}


@torch.no_grad()
def _load(net: nn.Module, optimizers: list[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Put a checkpoint's tensors in their places."""
    names = {parameter: name for name, parameter in net.named_parameters()}
    for parameter, name in names.items():
        parameter.copy_(shard_like(tensors[f"net.{name}"], parameter))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                prefix = f"optimizer.{names[parameter]}."
                found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                optimizer.state[parameter] = {key: shard_like(value, parameter) for key, value in found.items()}


def _untied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, each storage once (safetensors refuses shared memory: the tied head is the embedding)."""
    seen: set[int] = set()
    kept = {}
    for key, value in tensors.items():
        if value.numel() and value.data_ptr() in seen:
            continue
        seen.add(value.data_ptr())
        kept[key] = value.contiguous()
    return kept


def _valid(path: Path) -> bool:
    """Whether the file's bytes give the checksum in its name."""
    try:
        return digest(path) == path.stem.rpartition("-")[2]
    except OSError:
        return False
