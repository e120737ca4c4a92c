"""The schedule: the learning rate of each step, and what happens after it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repository import COMMITTED

from stages.common.params import parse_params
from stages.training.schedule import ROWS, Schedule, learning_rate


@given(
    steps=st.integers(1, 3000),
    peak=st.floats(1e-6, 10),
    share=st.floats(0, 1),
    warmup=st.integers(0, 4000),
    place=st.floats(0, 1),
)
def test_learning_rate_stays_within_bounds(steps: int, peak: float, share: float, warmup: int, place: float) -> None:
    """At any step it is above 0 while warming up, never above the peak, never below the minimum after warm-up."""
    minimum = peak * share
    step = min(steps - 1, int(place * steps))
    lr = learning_rate(step, steps, peak, minimum, warmup)
    assert 0.0 <= lr <= peak * (1 + 1e-12)
    if step >= (warmup if warmup < steps else steps // 2):
        assert lr >= minimum * (1 - 1e-12)
    else:
        assert lr > 0.0


def test_learning_rate_rises_then_falls_to_the_minimum() -> None:
    """Linear warm-up to the peak, cosine to exactly the minimum at the last step."""
    schedule = Schedule(5, 20, 0, 1, 1.0, 0.1, 10)
    lrs = [schedule.lr(step) for step in range(100)]
    assert lrs[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert lrs[10] == 1.0
    assert lrs[10:] == sorted(lrs[10:], reverse=True)
    assert lrs[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("peak", "share", "last"),
    [(0.003, "1/3", 0.001), (0.0002, "1/3", 0.0002 / 3), (0.5, "1/1", 0.5), (0.5, 0, 0.0), (0.004, "1/10", 0.0004)],
)
def test_the_last_rate_is_a_share_of_the_peak(peak: float, share: str | int, last: float) -> None:
    """Any peak goes with any share: no sweep of learning_rate is refused. The default's last rate is 0.001 exactly."""
    params = parse_params(COMMITTED | {"learning_rate": peak, "min_learning_rate": share})
    assert Schedule.of(params, 100).min_lr == last
    assert COMMITTED["min_learning_rate"] == "1/3" and COMMITTED["learning_rate"] == 0.003


def test_evaluates_at_each_epochs_end_and_as_often_as_asked() -> None:
    """With `eval_every` 0 only an epoch's end is evaluated."""
    schedule = Schedule(2, 8, 5, 4, 1.0, 0.1, 0)
    steps = range(1, 17)
    assert [step for step in steps if schedule.evaluates(step)] == [5, 8, 10, 15, 16]
    assert [step for step in steps if Schedule(2, 8, 0, 4, 1.0, 0.1, 0).evaluates(step)] == [8, 16]


@pytest.mark.parametrize("steps", [1, 16, 12_345])
def test_a_history_of_any_length_has_a_limited_number_of_rows(steps: int) -> None:
    """A row a step, until these would be more than ROWS; the last step has one always."""
    schedule = Schedule(1, steps, 0, 1, 1.0, 0.1, 0)
    rows = [step for step in range(1, steps + 1) if schedule.writes_row(step)]
    assert rows[-1] == steps
    assert len(rows) == steps if steps <= ROWS else ROWS <= len(rows) < 2 * ROWS
