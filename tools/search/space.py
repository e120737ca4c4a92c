"""Space: what a search may try, read from `-S` words as `dvc exp run` takes them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.common.errors import UserError
from stages.tracking.provenance import override_word

Value = str | int | float | bool | None
FORMS = "key=value, key=choice(1, 2), key=range(1, 9, 2), key=interval(0.1, 0.9), key=tag(log, interval(0.001, 0.1))"


@dataclass(frozen=True)
class Choice:
    """One of some values, in no order."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Interval:
    """A number from `low` to `high`, a whole one if both are; `log`: evenly in the logarithm; `step`: low, low + step, ..."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether it has whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Dimension = Choice | Interval


@dataclass(frozen=True)
class Space:
    """Params that are the same in each trial, and those that are searched."""

    fixed: Mapping[str, Any] = field(default_factory=dict)
    searched: Mapping[str, Dimension] = field(default_factory=dict)

    def grid(self) -> dict[str, list[Value]]:
        """The values of each searched param."""
        found: dict[str, list[Value]] = {}
        for key, dimension in self.searched.items():
            if isinstance(dimension, Choice):
                found[key] = list(dimension.values)
            elif (step := dimension.step or (1 if dimension.whole and not dimension.log else None)) is not None:
                count = round((dimension.high - dimension.low) / step) + 1
                found[key] = [_number(dimension.low, place, step) for place in range(count)]
            else:
                raise UserError(f"-S {key}: --sampler grid needs single values: choice(...) or range(...)")
        return found


def words(point: Mapping[str, Any]) -> list[str]:
    """Values as `-S` takes them."""
    return [f"{key}={override_word(value)}" for key, value in point.items()]


def read(given: Sequence[str], params: Mapping[str, Any]) -> Space:
    """The space that these `-S` words describe; Hydra's own parser reads them.

    Args:
        given: the words.
        params: those of params.yaml, which say which keys there are, and which of them are whole numbers.
    """
    fixed: dict[str, Any] = {}
    searched: dict[str, Dimension] = {}
    wrong = []
    for word in given:
        try:
            key, value = _read(word, params)
            if key in fixed or key in searched:
                raise UserError(f"{key} is given twice; keep one")
        except UserError as error:
            wrong.append(f"-S {word}: {error}")
        else:
            if isinstance(value, Choice | Interval):
                searched[key] = value
            else:
                fixed[key] = value
    if not (wrong or searched):
        wrong.append(f"-S: nothing to search. Give several values of a param: {FORMS}")
    if wrong:
        raise UserError("\n".join(wrong))
    return Space(fixed, searched)


def _read(word: str, params: Mapping[str, Any]) -> tuple[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, OverrideType, RangeSweep
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(f"{str(error).splitlines()[0]}. Write one of: {FORMS}") from None
    key, value = override.key_or_group, override._value
    if override.type != OverrideType.CHANGE:
        raise UserError("params.yaml has all keys; none can be added or removed")
    if key not in params:
        close = difflib.get_close_matches(key, params, 1)
        raise UserError(f"params.yaml has no key {key}" + (f"; did you mean {close[0]}?" if close else ""))
    if isinstance(value, ChoiceSweep):
        return key, _choice(value.list)
    if isinstance(value, RangeSweep):
        return key, _range(value.start, value.stop, value.step)
    if isinstance(value, IntervalSweep):
        whole = "int" in value.tags or (isinstance(params[key], int) and not isinstance(params[key], bool))
        return key, _interval(value.start, value.end, "log" in value.tags, whole)
    if isinstance(value, Glob):
        raise UserError("glob() is for Hydra's groups; name the values: choice(...)")
    return key, override.value()


def _choice(values: Sequence[Any]) -> Choice:
    """Raises UserError: a value is no text, number, true, false or null, or is there twice."""
    plain = [getattr(value, "text", value) for value in values]  # a quoted text
    if any(not (value is None or isinstance(value, str | int | float)) for value in plain):
        raise UserError("a choice is among texts, numbers, true, false and null")
    if len({repr(value) for value in plain}) < len(plain):
        raise UserError("a value is there twice; keep one")
    return Choice(tuple(plain))


def _range(start: Any, stop: Any, step: Any) -> Interval:
    """Without `stop` itself, as in Hydra. Raises UserError: it is empty."""
    count = math.ceil(round((stop - start) / step, 9)) if step > 0 else 0
    if count < 1:
        raise UserError("this range is empty: range(start, stop, step) goes up from start and ends before stop")
    return Interval(start, _number(start, count - 1, step), step=step)


def _interval(low: Any, high: Any, log: bool, whole: bool) -> Interval:
    """Raises UserError: it is empty, not of whole numbers, or has no logarithm."""
    if whole:
        if low != int(low) or high != int(high):
            raise UserError("the ends of an interval of whole numbers are whole numbers")
        low, high = int(low), int(high)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError("the first end of an interval is below the second")
    if log and low <= 0:
        raise UserError("tag(log, ...) needs an interval above 0")
    return Interval(low, high, log)


def _number(low: float, place: int, step: float) -> float:
    """The value at a place of a range, without the noise of adding: 0.1 + 2 * 0.1 is 0.3."""
    value = low + place * step
    return value if isinstance(value, int) else float(f"{value:.12g}")
