"""Packed: arrays as short text inside a page: whole numbers of few bits, deflated, in base64."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

PER_NAT = 2000  # steps of a nat: a probability is kept to 0.05 %, and rounding hides the last bits of a processor's arithmetic
NEVER = 65_535  # what has probability 0


def pack(values: Any, kind: str) -> dict[str, Any]:
    """Whole numbers as `u8` or `u16`, with their shape; page/arrays.js reads them."""
    array = np.ascontiguousarray(np.asarray(values), dtype={"u8": "<u1", "u16": "<u2"}[kind])
    return {"kind": kind, "shape": list(array.shape), "data": base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()}


def pack_nats(values: Any) -> dict[str, Any]:
    """-log p as `u16`, in steps of 1 / PER_NAT; above 32 nats values are clipped, except infinity."""
    nats = np.asarray(values, dtype=np.float64)
    steps = np.where(np.isinf(nats), NEVER, np.clip(np.round(nats * PER_NAT), 0, NEVER - 1))
    return pack(steps, "u16")


def pack_fractions(values: Tensor | NDArray[Any]) -> dict[str, Any]:
    """Shares from 0 to 1 as `u8`."""
    return pack(np.round(np.asarray(values) * 255), "u8")
