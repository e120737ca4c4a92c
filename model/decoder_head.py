"""The vocabulary head for generation: logits at half the memory traffic, and the exact likeliest token.

A step of generation does nothing with the head's matrix but read it: 26 MB at GPT-2's vocabulary and width 128, most of what
the step costs. Where PyTorch has FBGEMM (x86), a float16 copy with float32 sums halves that. A logit is then off by about
1e-4 of its size, which no sample shows (benchmarks/generate.py measures it); a greedy choice is checked in float32.
"""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from model.gpt2 import GPT2

LARGE = 1 << 20  # entries; a smaller matrix stays in the processor's own cache and is read fast enough
ROUNDING, SMALLEST, LARGEST = 2.0**-11, 2.0**-25, 65_504.0  # of float16: relative, absolute below its normal range, its range


class Logits:
    """The head's matrix, (V, C), ready to be multiplied."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.half = _half(weight)
        norm = float(weight.norm(dim=1).max()) if self.half is not None else 0.0
        self.error = ROUNDING * norm + SMALLEST * math.sqrt(weight.size(1))  # of a logit, at most, for |hidden| = 1

    def __call__(self, hidden: Tensor) -> Tensor:
        """(B, C) -> (B, V)."""
        if self.half is None:
            return F.linear(hidden, self.weight)
        logits: Tensor = torch.ops.quantized.linear_dynamic_fp16(hidden, self.half)
        return logits

    def likeliest(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C) -> the largest logit, nearly, and the token that has it in float32, (B,) each.

        Of tokens whose logits differ by rounding alone it may be any: a matrix product need not round equal rows alike.
        """
        logits = self(hidden)
        best, token = logits.max(dim=-1)
        if self.half is not None:
            edge = best - 2.0 * self.error * hidden.norm(dim=-1)  # the largest float32 logit is above it here, too
            others = logits.scatter(1, token[:, None], -torch.inf).amax(dim=-1)
            for row in (others >= edge).nonzero()[:, 0].tolist():
                near = (logits[row] >= edge[row]).nonzero()[:, 0]
                token[row] = near[(self.weight[near] @ hidden[row]).argmax()]
        return best, token


_latest: WeakKeyDictionary[GPT2, tuple[int, Logits]] = WeakKeyDictionary()


def logits_of(net: GPT2) -> Logits:
    """The network's head as it is now. Its copy takes as long as some hundred steps, so it is kept until the weights change."""
    weight = net.lm_head.weight.detach()
    if not _halves(weight):
        return Logits(weight)
    mark = int(weight.view(torch.int64).sum())  # a checksum of all bits, which takes as long as one step
    if net not in _latest or _latest[net][0] != mark:
        _latest[net] = (mark, Logits(weight))
    return _latest[net][1]


def _halves(weight: Tensor) -> bool:
    large = weight.numel() >= LARGE and weight.size(1) % 2 == 0
    return large and weight.device.type == "cpu" and weight.dtype == torch.float32


def _half(weight: Tensor) -> Any:
    """FBGEMM's float16 copy, or None where it does not pay or there is none."""
    if not _halves(weight) or float(weight.abs().max()) > LARGEST:
        return None
    try:
        return torch.ops.quantized.linear_prepack_fp16(weight, None)
    except (AttributeError, RuntimeError):  # another processor, or another PyTorch
        return None
