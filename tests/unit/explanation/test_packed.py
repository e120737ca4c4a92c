"""Numbers survive the packing to what a reader can see."""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any

import numpy as np
import torch

from stages.explanation.packed import NEVER, PER_NAT, pack, pack_fractions, pack_nats


def unpacked(packed: dict[str, Any]) -> Any:
    raw = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(raw, {"u8": "<u1", "u16": "<u2"}[packed["kind"]]).reshape(packed["shape"])


def test_whole_numbers() -> None:
    """They come back as they were, with their shape."""
    values = np.arange(12).reshape(3, 4) * 5000
    assert np.array_equal(unpacked(pack(values, "u16")), values)


def test_nats() -> None:
    """A probability is kept to three digits; what never happens stays impossible; very unlikely is not impossible."""
    p = torch.tensor([1.0, 0.5, 1e-3, 1e-9])
    back = np.exp(unpacked(pack_nats(-p.log())) / -float(PER_NAT))
    np.testing.assert_allclose(back, p, rtol=5e-4)
    assert unpacked(pack_nats([math.inf, 99.0])).tolist() == [NEVER, NEVER - 1]


def test_shares() -> None:
    """To one part in 255."""
    shares = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(unpacked(pack_fractions(shares)) / 255, shares, atol=0.002)
