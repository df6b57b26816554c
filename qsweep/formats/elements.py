"""The values of a format without its scale: a grid of integers, or floating point.

The rounding rules are defined on these two. Every value is a float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """The numbers k · step, k from `lowest` to `highest`.

    Attributes:
        step: a power of two.
        overflow: what a k out of range becomes. `saturate`: the nearest end. `wrap`: its lowest bits in two's
            complement. `unbounded`: itself.
    """

    lowest: int
    highest: int
    step: float = 1.0
    overflow: str = "saturate"

    @property
    def largest(self) -> float:
        return self.highest * self.step

    @property
    def magnitude(self) -> float:
        """The largest magnitude."""
        return max(self.highest, -self.lowest) * self.step

    def values(self) -> Iterator[float]:
        """All values, ascending."""
        return (k * self.step for k in range(self.lowest, self.highest + 1))


@dataclass(frozen=True)
class Floating:
    """Binary floating point with subnormals: ±f · 2^(e - mantissa), e ≥ `least_exponent`, f an integer.

    Attributes:
        mantissa: bits after the binary point.
        least_exponent: of normal numbers; smaller numbers are subnormal, with the same step.
        largest: the largest number.
        beyond: the magnitude of values that are larger than `largest` after rounding: Inf, NaN or `largest`.
        has_zero: False if 0 is not representable; values that would round to it become the smallest number of their
            sign.
    """

    mantissa: int
    least_exponent: int
    largest: float
    beyond: float
    has_zero: bool = True

    @property
    def magnitude(self) -> float:
        """The largest magnitude."""
        return self.largest

    @property
    def smallest_normal(self) -> float:
        return math.ldexp(1.0, self.least_exponent)

    @property
    def smallest(self) -> float:
        """The smallest number above 0."""
        return math.ldexp(1.0, self.least_exponent - self.mantissa)

    def values(self) -> Iterator[float]:
        """All finite values, ascending; 0 once."""
        positive = list(self._positive())
        yield from (-v for v in reversed(positive))
        if self.has_zero:
            yield 0.0
        yield from positive

    def _positive(self) -> Iterator[float]:
        k, exponent, full = 1, self.least_exponent - self.mantissa, 2 << self.mantissa
        while (value := math.ldexp(k, exponent)) <= self.largest:
            yield value
            k += 1
            if k == full:
                k, exponent = full // 2, exponent + 1


ElementType = Grid | Floating
