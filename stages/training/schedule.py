"""The schedule: the learning rate as a pure function of the step."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, peak: float, minimum: float, warmup: int) -> float:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017) down to `minimum` at the last step.

    Args:
        step: 0 to steps - 1.
        steps: of the whole training.
        peak: the highest rate, reached at step `warmup`.
        minimum: the rate of the last step.
        warmup: steps that rise; more than `steps` are cut to half of the training.

    Returns:
        the rate of this step; never 0 in the warm-up.
    """
    if warmup >= steps:
        warmup = steps // 2
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, steps - 1 - warmup)  # 0 at the peak, 1 at the last step
    return minimum + (peak - minimum) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
