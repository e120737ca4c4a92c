"""Numbers survive the packing to what a reader can see."""

from __future__ import annotations

import base64
import math
import zlib

import numpy as np
import torch

from stages.explanation.packed import NEVER, PER_NAT, pack_nats


def test_a_probability_is_kept_to_three_digits() -> None:
    """What never happens stays impossible; very unlikely is not impossible."""
    p = torch.tensor([1.0, 0.5, 1e-3, 1e-9])
    packed = pack_nats([*(-p.log()), math.inf, 99.0])
    steps = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), "<u2")
    np.testing.assert_allclose(np.exp(steps[:4] / -float(PER_NAT)), p, rtol=5e-4)
    assert steps[4:].tolist() == [NEVER, NEVER - 1]
