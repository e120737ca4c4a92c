"""Batches: which windows of the token stream make a step, as a pure function of (seed, epoch, step).

So there is no state to save: a resumed run, another number of processes or an evaluation in between cannot change what a step
sees. The order of an epoch is a keyed permutation, computed index by index, so it takes no memory.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.loss import IGNORE
from stages.common.params import TrainParams

Stream = NDArray[np.uint16]
Indices = NDArray[np.int64]
Windows = tuple[Tensor, Tensor]  # inputs and targets, (n, T) int64 each, on the CPU unless they are said to be elsewhere


def permute(index: Indices, size: int, key: int) -> Indices:
    """Where the permutation `key` of 0..size-1 sends each index: a 6-round Feistel network with cycle walking.

    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains": apply the network on the next power of 4 until the
    value falls inside the range; fewer than 4 rounds of walking on average.)
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)  # bits of each half
    low = np.uint64((1 << half) - 1)
    seeds = np.frombuffer(hashlib.blake2b(str(key).encode(), digest_size=48).digest(), dtype="<u8")  # one key per round
    value = index.astype(np.uint64)
    outside = np.ones(value.shape, dtype=bool)
    while outside.any():
        left, right = value[outside] >> np.uint64(half), value[outside] & low
        for seed in seeds:
            left, right = right, left ^ (_mix(right ^ seed) & low)
        value[outside] = (left << np.uint64(half)) | right
        outside = value >= np.uint64(size)
    return value.astype(np.int64)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finaliser (Steele et al. 2014): every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Batches:
    """The training batches over one token stream."""

    stream: Stream  # the tokens, memory-mapped; every token but the first is a target
    block_size: int  # tokens per window
    stride: int  # tokens from a window's start to the next one's; block_size makes each token a target exactly once per epoch
    batch_size: int  # windows per micro-batch, over all processes together
    accumulation: int  # micro-batches per optimizer step
    seed: int  # of the order
    padded: bool = False  # whether an epoch's smaller last step gets windows without targets, so that all steps have one shape

    @classmethod
    def of(cls, params: TrainParams, stream: Stream, padded: bool = False) -> Batches:
        """The batches that these params describe."""
        return cls(stream, params.block_size, params.stride, params.batch_size, params.grad_accumulation, params.seed, padded)

    @property
    def targets(self) -> int:
        """Tokens that can be predicted."""
        return len(self.stream) - 1

    @property
    def windows(self) -> int:
        """Windows per epoch."""
        return 1 + max(0, math.ceil((self.targets - self.block_size) / self.stride))

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch; the last one may be smaller."""
        return math.ceil(self.windows / (self.batch_size * self.accumulation))

    def starts(self, step: int) -> Indices:
        """First token of each window of the (global) optimizer step `step`, in the order of the batch."""
        epoch, place = divmod(step, self.steps_per_epoch)
        size = self.batch_size * self.accumulation
        places = np.arange(place * size, min((place + 1) * size, self.windows), dtype=np.int64)
        order = permute(places, self.windows, key=(self.seed << 32) + epoch)
        return order * self.stride

    def scored(self, starts: Indices) -> int:
        """Targets in these windows."""
        return int(np.minimum(self.block_size, self.targets - starts).sum())

    def split_for_rank(self, starts: Indices, rank: int, processes: int) -> list[Indices]:
        """Cut a step's windows into micro-batches and return this process's part of each (it may be empty)."""
        count = self.accumulation if self.padded else math.ceil(len(starts) / self.batch_size)
        micro_batches = [starts[i * self.batch_size : (i + 1) * self.batch_size] for i in range(count)]
        return [np.array_split(windows, processes)[rank] for windows in micro_batches]

    @property
    def advice(self) -> str:
        """What to lower where the memory does not suffice, and to what."""
        if self.batch_size == 1:
            return f"lower block_size from {self.block_size} to {max(1, self.block_size // 2)}, or n_embd or n_layer"
        half = (self.batch_size + 1) // 2
        return (
            f"lower batch_size from {self.batch_size} to {half} and raise grad_accumulation from {self.accumulation} "
            f"to {self.accumulation * 2}: the same training in about half the memory"
        )

    def read(self, starts: Indices, processes: int = 1) -> Windows:
        """Inputs and targets (n, T) of one process's windows; where the stream ends, targets are -100 (not scored)."""
        rows = math.ceil(self.batch_size / processes) if self.padded else 1
        return read_windows(self.stream, starts, self.block_size, rows)


def read_windows(stream: Stream, starts: Indices, block_size: int, rows: int = 1) -> Windows:
    """Inputs stream[s : s + T] and targets stream[s + 1 : s + T + 1] for each start s, each (n, T) int64.

    With fewer starts than `rows` it adds windows whose targets are all ignored; with at least one row, a process without work
    can still join the step.
    """
    count = max(rows, len(starts))
    tokens = np.zeros((count, block_size), dtype=np.int64)
    targets = np.full((count, block_size), IGNORE, dtype=np.int64)
    for row, start in enumerate(starts):
        window = stream[start : start + block_size + 1]
        tokens[row, : len(window) - 1] = window[:-1]
        targets[row, : len(window) - 1] = window[1:]
    return torch.from_numpy(tokens), torch.from_numpy(targets)


def validation_windows(stream: Stream, block_size: int, most: int = 128) -> Windows:
    """What is evaluated during training: at most `most` windows, evenly spaced. The stage evaluate takes the whole split."""
    count = max(1, math.ceil((len(stream) - 1) / block_size))
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    return read_windows(stream, chosen * block_size, block_size)


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Make dropout a pure function of (seed, step, rank) too, so that no generator state has to be saved."""
    name = hashlib.blake2b(f"{seed} {step} {rank}".encode(), digest_size=8).digest()
    number = int.from_bytes(name, "little") >> 1
    torch.default_generator.manual_seed(number)  # torch.manual_seed seeds all kinds of devices, 165 us of a step
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
