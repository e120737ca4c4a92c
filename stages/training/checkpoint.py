"""Checkpoints: the whole state of an unfinished training, written so that no crash can damage it.

Each checkpoint is one safetensors file whose name ends in its own checksum. It is written under another name, synced, and
renamed, so a file under its final name is whole; one whose checksum is not that of its name is skipped. They are kept in
ROOT/.checkpoints/<key>, outside DVC's outputs, which DVC deletes before a stage starts. The key is a hash of everything that
decides the bits.

A training waits only until its state is copied; a thread writes the copy. When checkpoints are written depends on how long that
takes, and decides no bit of the result.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from stages.common.files import Lock, atomic, digest, remove_temporary, write_json
from stages.training.distributed import full_tensor, shard_like
from stages.training.identity import differences

FACTS = "facts.json"  # what decides the bits of the training, beside its checkpoints
KEEP = 2  # checkpoints to keep: the newest, and a spare in case its file is damaged
OFTEN = 100  # a lower checkpoint_every is obeyed, whatever it costs
SHARE = 0.03  # of a training's time that checkpoints may cost
FIRST_SECONDS = 60.0  # before the first one, whose cost is not known yet


@dataclass
class State:
    """Where a training stands, beside its weights.

    Attributes:
        step: optimizer steps done.
        history: all that was measured so far, as JSON values.
        scaler: of the loss in fp16, see torch.amp.GradScaler; empty in other precisions.
        best: the weights at the lowest validation loss, on the CPU, where they are to be the result.
    """

    step: int
    history: dict[str, Any]
    scaler: dict[str, float] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All but the tensors."""
        return {"step": self.step, "history": self.history, "scaler": self.scaler}


class Checkpoints:
    """The checkpoints of one training in one folder. Use as a context: it is locked against a second training.

    Args:
        folder: ROOT/.checkpoints/<key>.
        writes: False for the processes that only read (all but rank 0); they take no lock.
        facts: what the key is made of, see `identity.training_facts`.
        clock: seconds, of any origin.
    """

    def __init__(
        self,
        folder: Path,
        writes: bool = True,
        facts: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.writes, self.facts, self._clock = folder, writes, facts or {}, clock
        self._lock = Lock(f"{folder}.lock")
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Path] | None = None
        self._copies: dict[str, Tensor] = {}  # kept, because fresh memory costs more than the copying
        self._step, self._since = 0, clock()  # of the last checkpoint, or where this process began
        self._cost: float | None = None  # seconds that the last one took from the training

    def __enter__(self) -> Checkpoints:
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                print("the same training runs already in another process; waiting for it to end", file=sys.stderr)
                self._lock.acquire()
            remove_temporary(self.folder)  # what a kill left half-written; the other one may have removed all at its end
            write_json(self.folder / FACTS, self.facts)
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()  # waits for the last one
        if self.writes:
            self._lock.release()

    def due(self, step: int, every: int) -> bool:
        """Whether to save after this step: `every` steps after the last checkpoint, once that costs at most SHARE of the time.

        Raises:
            OSError, SafetensorError: the last one could not be written.
        """
        if self._writing is not None and self._writing.done():
            self.wait()
        if not self.writes or step - self._step < every:
            return False
        if every < OFTEN:
            return True
        pause = FIRST_SECONDS if self._cost is None else self._cost / SHARE
        return self._writing is None and self._clock() - self._since >= pause

    def save(self, state: State, net: nn.Module, optimizers: list[Optimizer]) -> None:
        """Copy the training's state, and let the thread write it and delete all but the newest KEEP.

        Raises:
            OSError, SafetensorError: the one before could not be written.
        """
        self.wait()
        begin = self._clock()
        for key, value in _tensors(net, optimizers):
            full = full_tensor(value).detach()
            if self.writes:
                if key not in self._copies:  # from pinned memory a GPU copies without the CPU
                    self._copies[key] = torch.empty(full.shape, dtype=full.dtype, pin_memory=full.is_cuda)
                self._copies[key].copy_(full, non_blocking=True)
        if self._copies and next(iter(self._copies.values())).is_pinned():
            torch.cuda.synchronize()
        self._step, self._since = state.step, self._clock()
        if self.writes:
            metadata = {"state": json.dumps(state.as_json())}
            self._writing = self._writer.submit(self._write, state, metadata, self._since - begin)

    def wait(self) -> Path | None:
        """Wait until the last checkpoint is written, and return its path; None if there is none that was not waited for.

        Raises:
            OSError, SafetensorError: it could not be written.
        """
        writing, self._writing = self._writing, None
        return writing.result() if writing else None

    def _write(self, state: State, metadata: dict[str, str], seconds: float) -> Path:
        """Write the copies; `seconds` is what they have cost already."""
        begin = time.thread_time()
        partial = self.folder / f"step-{state.step:010d}.safetensors"
        with atomic(partial) as temporary:
            best = {f"best.{name}": value for name, value in state.best.items()}
            save_file(self._copies | best, temporary, metadata=metadata)
        final = partial.with_name(f"{partial.stem}-{digest(partial)}.safetensors")
        partial.replace(final)
        for old in _finished(self.folder)[KEEP:]:
            old.unlink()
        self._cost = seconds + time.thread_time() - begin
        return final

    def restore(self, net: nn.Module, optimizers: list[Optimizer]) -> State | None:
        """Load the newest valid checkpoint into the network and the optimizers; None if there is none."""
        for path in _finished(self.folder):
            if not _valid(path):
                print(f"checkpoint {path.name} is damaged; trying the previous one", file=sys.stderr)
                continue
            with safe_open(path, framework="pt", device="cpu") as file:
                header = json.loads(file.metadata()["state"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
            _load(net, optimizers, tensors)
            best = {key.removeprefix("best."): value for key, value in tensors.items() if key.startswith("best.")}
            state = State(**header, best=best)
            self._step = state.step
            return state
        return None

    def remove(self) -> None:
        """Forget this training: it is done, its outputs are DVC's now."""
        self._writer.shutdown()  # the last one may be on its way
        if self.writes:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                Path(self._lock.lock_file).unlink()

    def explain_new_start(self) -> str:
        """If this training begins at its first step though others have left checkpoints: why these are not continued, how
        large they are, and how to remove them. Empty if there is nothing to say."""
        others = [] if _finished(self.folder) else list(self._left_behind())
        if not others:
            return ""
        lines = []
        for folder, reason in others:
            size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
            step = int(_finished(folder)[0].name.split("-")[1])
            lines.append(f"  {os.path.relpath(folder)}: step {step:,}, {size:,.1f} MB; different: {reason}")
        remove = shlex.join(["rm", "-r", *(os.path.relpath(folder) for folder, _ in others)])
        head = "note: there are unfinished trainings, which only the same settings, code and machine continue:"
        return "\n".join([head, *lines, f"This one begins anew. To remove them: {remove}"])

    def _left_behind(self) -> Iterator[tuple[Path, str]]:
        """The other trainings' folders that have checkpoints, and what is different there; not those that run now."""
        for folder in sorted(self.folder.parent.iterdir()):
            if folder == self.folder or not folder.is_dir() or not _finished(folder):
                continue
            try:
                with Lock(f"{folder}.lock", timeout=0):
                    before = json.loads((folder / FACTS).read_text(encoding="utf-8"))
                    yield folder, "; ".join(differences(before, self.facts))
            except Timeout:
                continue
            except (OSError, ValueError, LookupError):
                yield folder, "the code (it is of an earlier version)"


def _finished(folder: Path) -> list[Path]:
    """The finished checkpoints in a folder, newest first."""
    return sorted(folder.glob("step-*-*.safetensors"), reverse=True)


def _tensors(net: nn.Module, optimizers: list[Optimizer]) -> Iterator[tuple[str, Tensor]]:
    """The parameters, tied ones once, and what the optimizers remember of each (moments, steps), by name."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in net.named_parameters()}
    for parameter, name in names.items():
        yield f"net.{name}", parameter
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            yield from ((f"optimizer.{names[parameter]}.{key}", value) for key, value in state.items())


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


def _valid(path: Path) -> bool:
    """Whether the file can be read and its bytes give the checksum in its name."""
    try:
        return digest(path) == path.stem.rpartition("-")[2]
    except OSError:
        return False
