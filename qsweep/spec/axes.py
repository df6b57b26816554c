"""The values of an axis: a list, or a generator of numbers (range, pow2, linspace, logspace)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from qsweep.errors import cut, unknown
from qsweep.parameter import BadValueError, show

MAX_VALUES = 100_000
MAX_EXPONENT = 1000
"""For powers of two; beyond it there are no normal numbers."""
MAX_POWER = 300
"""The largest exponent of a power of ten, for the same reason."""
DIGITS = 12
"""Computed numbers are rounded to this many significant digits, so that linspace(0, 1, 11) has 0.3, as another spec
would write it, not 0.30000000000000004. Powers of two and given numbers are exact and are not rounded."""


def values(given: object) -> list[Any]:
    """The values of an axis in a spec.

    Raises:
        BadValueError: it is neither a list nor a generator, or has no values or more than 100,000.
    """
    if isinstance(given, Mapping) and len(given) == 1 and next(iter(given)) in GENERATORS:
        name, arguments = next(iter(given.items()))
        return GENERATORS[name](_numbers(name, arguments))
    if isinstance(given, Mapping):
        raise BadValueError(unknown("generator", ", ".join(given), tuple(GENERATORS)))
    if not isinstance(given, list):
        raise BadValueError(f"found {show(given)}, expected a list of values or a generator such as {{pow2: [0, -14]}}")
    if not given:
        raise BadValueError("the axis has no values, so the grid is empty")
    return given


def rounded(value: float) -> float:
    """A computed number rounded to 12 significant digits."""
    return float(f"{value:.{DIGITS}g}")


def limit(count: int) -> int:
    """Return a number of values or seeds unless it is too large.

    Raises:
        BadValueError: more than 100,000.
    """
    if count > MAX_VALUES:
        raise BadValueError(f"{cut(f'{count:,}')} values: at most {MAX_VALUES:,}")
    return count


def _numbers(name: str, arguments: object) -> list[float]:
    wanted = (3,) if name in ("linspace", "logspace") else (2, 3)
    if isinstance(arguments, list) and len(arguments) in wanted and all(map(_is_number, arguments)):
        return arguments
    raise BadValueError(f"found {show(arguments)}, expected {USAGE[name]}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range(numbers: list[float]) -> list[Any]:
    """first, first ± step … last, downwards where first > last."""
    first, last, step = (*numbers, 1)[:3]
    if step <= 0:
        raise BadValueError(
            f"found a step of {show(step)}, expected one above 0 (the direction follows from first and last)"
        )
    parts, rest = divmod(abs(_as_written(last) - _as_written(first)), _as_written(step))
    limit(parts + 1)
    if rest:
        raise BadValueError(
            f"steps of {show(step)} from {show(first)} do not reach {show(last)}: both ends are included"
        )
    if all(isinstance(n, int) for n in numbers):
        sign = 1 if last >= first else -1
        return [first + sign * step * i for i in range(parts + 1)]
    return _evenly(first, last, parts)


def _pow2(numbers: list[float]) -> list[Any]:
    if not all(isinstance(n, int) and abs(n) <= MAX_EXPONENT for n in numbers):
        raise BadValueError(f"found {show(numbers)}, expected {USAGE['pow2']}")
    return [2**e if e >= 0 else 2.0**e for e in _range(numbers)]


def _linspace(numbers: list[float]) -> list[Any]:
    first, last, count = numbers
    return _evenly(first, last, _parts(count))


def _logspace(numbers: list[float]) -> list[Any]:
    if max(map(abs, numbers[:2])) > MAX_POWER:
        raise BadValueError(f"found {show(numbers)}, expected {USAGE['logspace']}")
    first, last, count = numbers
    return [rounded(10.0**e) for e in _exactly(first, last, _parts(count))]


def _parts(count: float) -> int:
    if not isinstance(count, int) or count < 2:
        raise BadValueError(f"found a count of {show(count)}, expected an integer from 2 (both ends are included)")
    return limit(count) - 1


def _as_written(number: float) -> Fraction:
    """The decimal number as written in the spec: 0.1 is exactly a tenth, so that ten steps of it from 0 reach 1."""
    return Fraction(str(number))


def _evenly(first: float, last: float, parts: int) -> list[float]:
    """Equal steps from first to last: the ends as written, the values between them rounded."""
    if parts == 0:
        return [first]
    return [first, *map(rounded, _exactly(first, last, parts)[1:-1]), last]


def _exactly(first: float, last: float, parts: int) -> list[float]:
    start, step = _as_written(first), (_as_written(last) - _as_written(first)) / parts
    return [float(start + i * step) for i in range(parts + 1)]


GENERATORS: dict[str, Callable[[list[float]], list[Any]]] = {
    "range": _range,
    "pow2": _pow2,
    "linspace": _linspace,
    "logspace": _logspace,
}
USAGE = {
    "range": "[first, last] or [first, last, step], both ends included",
    "pow2": f"[first, last] or [first, last, step], integer exponents of 2 from -{MAX_EXPONENT} to {MAX_EXPONENT}",
    "linspace": "[first, last, count], both ends included",
    "logspace": f"[first, last, count], exponents of 10 from -{MAX_POWER} to {MAX_POWER}",
}
