"""The values of one axis: a list, or a generator of numbers (range, pow2, linspace, logspace)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qsweep.errors import unknown
from qsweep.parameters import BadValueError, show

MAX_VALUES = 1_000_000
DIGITS = 12
"""Computed numbers are rounded to this many significant digits: linspace(0, 1, 11) has 0.3, not 0.30000000000000004, so
that it meets the 0.3 of another spec. Powers of two and written numbers are exact and stay as they are."""


def values(given: object) -> list[Any]:
    """The values that an axis in a spec means.

    Raises:
        BadValueError: neither a list nor a generator, no values, or more than a million.
    """
    if isinstance(given, Mapping) and len(given) == 1 and next(iter(given)) in GENERATORS:
        name, arguments = next(iter(given.items()))
        return GENERATORS[name](_numbers(name, arguments))
    if isinstance(given, Mapping):
        raise BadValueError(unknown("generator", ", ".join(given), tuple(GENERATORS)))
    if not isinstance(given, list):
        raise BadValueError(f"found {show(given)}, expected a list of values or a generator such as {{pow2: [0, -14]}}")
    if not given:
        raise BadValueError("an axis without values: the grid is empty")
    return given


def rounded(value: float) -> float:
    """A computed number to 12 significant digits."""
    return float(f"{value:.{DIGITS}g}")


def _numbers(name: str, arguments: object) -> list[float]:
    count = len(arguments) if isinstance(arguments, list) else 0
    wanted = (3,) if name in ("linspace", "logspace") else (2, 3)
    plain = isinstance(arguments, list) and all(isinstance(a, int | float) and a is not True for a in arguments)
    if not plain or count not in wanted:
        raise BadValueError(f"found {show(arguments)}, expected {USAGE[name]}")
    return list(arguments)  # type: ignore[call-overload]  # `plain` says that it is a list


def _steps(name: str, numbers: list[float]) -> list[float]:
    """first, first ± step … last: both ends in, downwards where first > last."""
    first, last = numbers[:2]
    step = numbers[2] if len(numbers) == 3 else 1
    if step <= 0:
        raise BadValueError(f"found a step of {show(step)}, expected one above 0 (the direction comes from the ends)")
    count = int(abs(last - first) / step + 1e-9) + 1
    _limit(count)
    sign = 1 if last >= first else -1
    return [first + sign * step * i for i in range(count)]


def _range(numbers: list[float]) -> list[Any]:
    if all(isinstance(n, int) for n in numbers):
        return _steps("range", numbers)
    return [rounded(v) for v in _steps("range", numbers)]


def _pow2(numbers: list[float]) -> list[Any]:
    if not all(isinstance(n, int) and abs(n) <= 1000 for n in numbers):
        raise BadValueError(f"found {show(numbers)}, expected {USAGE['pow2']}")
    return [2.0**e for e in _steps("pow2", numbers)]


def _linspace(numbers: list[float]) -> list[Any]:
    first, last, count = numbers
    if not isinstance(count, int) or count < 1:
        raise BadValueError(f"found a count of {show(count)}, expected an integer from 1")
    _limit(count)
    return [rounded(first + (last - first) * i / max(count - 1, 1)) for i in range(count)]


def _logspace(numbers: list[float]) -> list[Any]:
    if max(map(abs, numbers[:2])) > 300:
        raise BadValueError(f"found {show(numbers)}, expected {USAGE['logspace']}")
    return [rounded(10.0**e) for e in _linspace(numbers)]


def _limit(count: int) -> None:
    if count > MAX_VALUES:
        raise BadValueError(f"{count:,} values in one axis: at most {MAX_VALUES:,}")


GENERATORS: dict[str, Callable[[list[float]], list[Any]]] = {
    "range": _range,
    "pow2": _pow2,
    "linspace": _linspace,
    "logspace": _logspace,
}
USAGE = {
    "range": "[first, last] or [first, last, step], both ends in",
    "pow2": "[first, last] or [first, last, step], integer exponents of 2 from -1000 to 1000",
    "linspace": "[first, last, count]",
    "logspace": "[first, last, count], exponents of 10 from -300 to 300",
}
