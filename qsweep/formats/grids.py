"""Formats whose values are fixed and evenly spaced: float32 itself, a fixed range, fixed point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qsweep.formats.codes import FloatCode, IntegerCode, float_code
from qsweep.formats.declared import COMPAT, FRACTION, OVERFLOW, SCALE, SYMMETRIC, ZERO, bitwidth
from qsweep.formats.elements import Grid
from qsweep.formats.family import Format
from qsweep.formats.numbers import as_float32
from qsweep.parameter import BadValueError, Parameter

RANGE_BITWIDTH = bitwidth(1, 16)
FIXED_BITWIDTH = bitwidth(1, 24)


@dataclass(frozen=True)
class Float32(Format):
    """IEEE 754 binary32, the arithmetic of the training itself: nothing is rounded."""

    family: ClassVar[str] = "float32"
    short: ClassVar[str] = "float32"
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    summary: ClassVar[str] = "IEEE 754 single precision; nothing is rounded"
    examples: ClassVar[tuple[str, ...]] = ("float32",)

    rule: ClassVar[str] = "none"
    code: ClassVar[FloatCode] = float_code(8, 23, "ieee")
    is_coded: ClassVar[bool] = False  # it is stored as float32


@dataclass(frozen=True)
class Range(Format):
    """2^b levels k / 2^(b-1) / scale, k from -2^(b-1) to 2^(b-1) - 1: a fixed range, ±1/scale.

    The quantizer of "Training with quantized weights". A value w is quantized in four steps:

        x = w · scale · 2^(b-1)
        r = x rounded to an integer (nearest: ties to even; stochastic: to a neighbour, unbiased)
        zero: false only: where r = 0, r becomes the sign of w (+1 or -1; 0 where w is exactly 0)
        k = r clipped to [-2^(b-1), 2^(b-1) - 1], and the stored weight is k / 2^(b-1) / scale

    Consequences of this formula:
      - The levels are not symmetric: the lowest is -1/scale, the highest one step below +1/scale.
      - One bit has the levels -1/scale and 0. `zero: false` does not make it {-1, +1}: a result of 0 is moved to +1 or
        -1, then +1 is clipped back to 0. With nearest and stochastic rounding alike, a positive weight becomes 0, so
        a 1-bit layer has no positive weights.
      - Two bits have the levels -1, -1/2, 0 and +1/2 (each ÷ scale); without 0, three levels are left.
      - `zero: false` after stochastic rounding is biased: every |x| < 1 becomes ±1.
      - A weight that is exactly 0 stays 0 under `zero: false`, because it has no sign.

    Source: the RangeQuantizeCallback of that document, whose text describes another set, [-2^(b-1), 2^(b-1)] without 0.
    """

    family: ClassVar[str] = "range"
    short: ClassVar[str] = "range{bitwidth}"
    parameters: ClassVar[tuple[Parameter, ...]] = (RANGE_BITWIDTH, SCALE, ZERO)
    summary: ClassVar[str] = "levels k/2^(b-1)/scale, two's complement, the range ±1/scale fixed"
    examples: ClassVar[tuple[str, ...]] = ("range4",)
    rule: ClassVar[str] = "range"

    bitwidth: int
    scale: float = 1.0
    zero: bool = True

    @property
    def lowest(self) -> int:
        """The lowest integer level, k = -2^(b-1)."""
        return -(1 << (self.bitwidth - 1))

    @property
    def highest(self) -> int:
        """The highest integer level, k = 2^(b-1) - 1."""
        return -self.lowest - 1

    @property
    def steps_per_unit(self) -> float:
        """Levels in an interval of length 1: scale · 2^(b-1), the reciprocal of the step."""
        return self.scale * 2.0 ** (self.bitwidth - 1)

    @property
    def step(self) -> float:
        """Distance between neighbouring levels, 2^(1-b)/scale."""
        return 1.0 / self.steps_per_unit

    @property
    def code(self) -> IntegerCode:
        """0 is not a code without a zero level, except at one bit, where the formula keeps it."""
        per_unit, has_zero = as_float32(self.steps_per_unit), self.zero or self.bitwidth == 1
        return IntegerCode(self.bitwidth, self.lowest, self.highest, per_unit=per_unit, has_zero=has_zero)


@dataclass(frozen=True)
class Unbounded(Format):
    """Fixed point of any width: the numbers k · 2^-F, k any integer. Only the fraction matters; ±Inf stays.

    Source: "Quantized training bottleneck", which asks only how many fractional bits training needs.
    """

    family: ClassVar[str] = "fraction"
    short: ClassVar[str] = "fraction{fraction}"
    parameters: ClassVar[tuple[Parameter, ...]] = (FRACTION,)
    summary: ClassVar[str] = "fixed point of any width: k/2^F, k any integer"
    examples: ClassVar[tuple[str, ...]] = ("fraction8",)
    rule: ClassVar[str] = "elements"
    code: ClassVar[None] = None

    fraction: int

    @property
    def elements(self) -> Grid:
        return Grid(0, 0, 2.0**-self.fraction, "unbounded")


@dataclass(frozen=True)
class Fixed(Format):
    """Fixed point: the numbers k · 2^-F, k an integer of W bits in two's complement.

    x · 2^F is rounded to an integer k, to which `overflow` then applies: `saturate` clips k to [-2^(W-1), 2^(W-1) - 1]
    (with `symmetric`, to ±(2^(W-1) - 1)), `wrap` keeps its lowest W bits, and `unbounded` does not change it, so that
    only the fraction matters. NaN stays NaN; ±Inf saturates, wraps to NaN, or stays. A result of 0 is +0.

    F may be greater than W (all values are small) or negative (the step is larger than 1). `compat: qtorch` is
    QPyTorch's `fixed_point_quantize`, with its own rules.

    Raises:
        BadValueError: `symmetric` with `wrap`, or at one bit, where only 0 would be left; QPyTorch's rules with `wrap`.
    """

    family: ClassVar[str] = "fixed"
    short: ClassVar[str] = "fixed{bitwidth}f{fraction}"
    parameters: ClassVar[tuple[Parameter, ...]] = (FIXED_BITWIDTH, FRACTION, SYMMETRIC, OVERFLOW, COMPAT)
    summary: ClassVar[str] = "fixed point: k/2^F, k an integer of W bits in two's complement"
    examples: ClassVar[tuple[str, ...]] = ("fixed8f7",)

    bitwidth: int
    fraction: int
    symmetric: bool = False
    overflow: str = "saturate"
    compat: str = "none"

    def __post_init__(self) -> None:
        if self.symmetric and self.overflow == "wrap":
            raise BadValueError("a wrapping fixed point has all of its 2^W values: it can't be symmetric")
        if self.symmetric and self.bitwidth == 1:
            raise BadValueError("a symmetric fixed point of one bit has no value but 0: it needs 2 bits")
        if self.compat == "qtorch" and self.overflow == "wrap":
            raise BadValueError("QPyTorch has no wrapping fixed point: overflow saturate or unbounded")

    @property
    def elements(self) -> Grid:
        highest = (1 << (self.bitwidth - 1)) - 1
        return Grid(-highest if self.symmetric else -highest - 1, highest, 2.0**-self.fraction, self.overflow)

    @property
    def rule(self) -> str:
        return "elements" if self.compat == "none" else self.compat

    @property
    def is_emulated(self) -> bool:
        return self.compat != "none"

    @property
    def code(self) -> IntegerCode | None:
        grid = self.elements
        has_ends = grid.overflow != "unbounded"
        return IntegerCode(self.bitwidth, grid.lowest, grid.highest, per_unit=1 / grid.step) if has_ends else None


FAMILIES: tuple[type[Format], ...] = (Float32, Range, Fixed, Unbounded)
