"""Space: what a search may try, read from `-S` words as `dvc exp run` takes them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, OverrideType, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from stages.common.errors import UserError
from stages.tracking.provenance import override_word

FORMS = "key=value, key=choice(1, 2), key=range(1, 9, 2), key=interval(0.1, 0.9), key=tag(log, interval(0.001, 0.1))"


@dataclass(frozen=True)
class Space:
    """Params that are the same in each trial, and those that are searched."""

    fixed: Mapping[str, Any]
    searched: Mapping[str, BaseDistribution]

    def grid(self) -> dict[str, list[Any]]:
        """The values of each searched param.

        Raises:
            UserError: one has no single values.
        """
        found: dict[str, list[Any]] = {}
        for key, values in self.searched.items():
            if isinstance(values, CategoricalDistribution):
                found[key] = list(values.choices)
            elif values.step is not None and not values.log:
                count = round((values.high - values.low) / values.step) + 1
                found[key] = [_number(values.low, place, values.step) for place in range(count)]
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
    searched: dict[str, BaseDistribution] = {}
    wrong = []
    for word in given:
        try:
            key, value = _read(word, params)
            if key in fixed or key in searched:
                raise UserError(f"{key} is given twice; keep one")
        except (UserError, ValueError) as error:  # a ValueError is Optuna's, which has no such numbers
            wrong.append(f"-S {word}: {error}")
        else:
            if isinstance(value, BaseDistribution):
                searched[key] = value
            else:
                fixed[key] = value
    if not (wrong or searched):
        wrong.append(f"-S: nothing to search. Give several values of a param: {FORMS}")
    if wrong:
        raise UserError("\n".join(wrong))
    return Space(fixed, searched)


def _read(word: str, params: Mapping[str, Any]) -> tuple[str, Any]:
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
        whole = "int" in value.tags or isinstance(value.start, int) or type(params[key]) is int
        return key, _interval(value.start, value.end, "log" in value.tags, whole)
    if isinstance(value, Glob):
        raise UserError("glob() is for Hydra's groups; name the values: choice(...)")
    return key, override.value()


def _choice(values: Sequence[Any]) -> CategoricalDistribution:
    """Raises UserError: a value is no text, number, true, false or null, or is there twice."""
    plain = [getattr(value, "text", value) for value in values]  # a quoted text
    if any(not (value is None or isinstance(value, str | int | float)) for value in plain):
        raise UserError("a choice is among texts, numbers, true, false and null")
    if len({repr(value) for value in plain}) < len(plain):
        raise UserError("a value is there twice; keep one")
    return CategoricalDistribution(plain)


def _range(start: Any, stop: Any, step: Any) -> BaseDistribution:
    """Without `stop` itself, as in Hydra. Raises UserError: it is empty."""
    count = math.ceil(round((stop - start) / step, 9)) if step > 0 else 0
    if count < 1:
        raise UserError("this range is empty: range(start, stop, step) goes up from start and ends before stop")
    kind = IntDistribution if isinstance(start, int) and isinstance(step, int) else FloatDistribution
    return kind(start, _number(start, count - 1, step), step=step)


def _interval(low: Any, high: Any, log: bool, whole: bool) -> BaseDistribution:
    """Raises UserError, or Optuna's ValueError: it is empty, without an end, not of whole numbers, or has no logarithm."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError("the ends of an interval are finite numbers")
    if not whole:
        return FloatDistribution(low, high, log)
    if low != int(low) or high != int(high):
        raise UserError("the ends of an interval of whole numbers are whole numbers")
    return IntDistribution(int(low), int(high), log)


def _number(low: float, place: int, step: float) -> float:
    """The value at a place of a range, without the noise of adding: 0.1 + 2 * 0.1 is 0.3."""
    value = low + place * step
    return value if isinstance(value, int) else float(f"{value:.12g}")
