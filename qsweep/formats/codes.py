"""The codes of formats: the bits of an element, and the number that they encode.

Numbers are decoded from the fields of a code. The rounding rules define them independently; a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from qsweep.formats.numbers import as_float32

MOST_VALUES = 65_536
"""The largest number of codes that is listed."""

SIGNED, SIGN_FIRST, UNSIGNED = "two's complement", "sign and magnitude", "unsigned"


@dataclass(frozen=True)
class FloatCode:
    """A sign, an exponent field and a mantissa field.

    Attributes:
        kind: what the highest codes are: `ieee`, `nan` or `finite`, as in qsweep.formats.Float.
        has_zero: whether the exponent field 0 holds 0 and subnormal numbers.
    """

    exponent: int
    mantissa: int
    kind: str
    bias: int
    has_zero: bool = True

    @property
    def bits(self) -> int:
        return 1 + self.exponent + self.mantissa

    @property
    def fields(self) -> str:
        """A description of the bits."""
        return f"1 sign, {self.exponent} exponent (bias {self.bias}), {self.mantissa} mantissa"

    def spell(self, code: int) -> str:
        """The bits, a space between fields."""
        digits, cut = f"{code:0{self.bits}b}", 1 + self.exponent
        return f"{digits[0]} {digits[1:cut]} {digits[cut:]}".rstrip()

    def decode(self, code: int) -> float:
        """The number, Inf or NaN that a code encodes."""
        fraction = code % (1 << self.mantissa)
        field = (code >> self.mantissa) % (1 << self.exponent)
        return math.copysign(self._magnitude(field, fraction), -1.0 if code >> (self.bits - 1) else 1.0)

    def _magnitude(self, field: int, fraction: int) -> float:
        top, full = field == (1 << self.exponent) - 1, (1 << self.mantissa) - 1
        if top and self.kind == "ieee":
            return math.nan if fraction else math.inf
        if top and self.kind == "nan" and fraction == full:
            return math.nan
        if field == 0 and self.has_zero:
            return math.ldexp(fraction, 1 - self.bias - self.mantissa)
        return math.ldexp((1 << self.mantissa) + fraction, field - self.bias - self.mantissa)

    @property
    def nans(self) -> int:
        """The number of codes that are NaN."""
        return {"ieee": 2 * ((1 << self.mantissa) - 1), "nan": 2, "finite": 0}[self.kind]

    @property
    def has_inf(self) -> bool:
        return self.kind == "ieee"

    @property
    def highest(self) -> int:
        """The code of the largest number."""
        beyond = {"ieee": 1 << self.mantissa, "nan": 1, "finite": 0}[self.kind]
        return (1 << (self.bits - 1)) - 1 - beyond

    @property
    def levels(self) -> int:
        """How many distinct numbers there are; 0 counts once."""
        return 2 * self.highest + 1 if self.has_zero else 2 * (self.highest + 1)

    @property
    def largest(self) -> float:
        return self.decode(self.highest)

    @property
    def lowest(self) -> float:
        return -self.largest

    @property
    def step(self) -> None:
        """None: neighbours are not evenly spaced."""

    @property
    def normal(self) -> float:
        """The smallest normal number."""
        return self.decode(self.has_zero << self.mantissa)

    @property
    def subnormal(self) -> float | None:
        """The smallest subnormal number above 0, if there are any."""
        return self.decode(1) if self.has_zero and self.mantissa else None


@dataclass(frozen=True)
class IntegerCode:
    """An integer k, which encodes k / per_unit + offset in float32.

    Attributes:
        style: how k is written: SIGNED, SIGN_FIRST, or UNSIGNED, if none is below 0.
        has_zero: whether k = 0 is a code.
    """

    bits: int
    least: int
    most: int
    style: str = SIGNED
    per_unit: float = 1.0
    offset: float = 0.0
    has_zero: bool = True
    has_inf: ClassVar[bool] = False
    nans: ClassVar[int] = 0
    normal: ClassVar[None] = None
    subnormal: ClassVar[None] = None

    @property
    def fields(self) -> str:
        """A description of the bits."""
        return f"k from {self.least} to {self.most}, {self.style}" if not self.offset else "the sign, 1 for +"

    @property
    def step(self) -> float:
        """The distance between neighbouring levels."""
        return as_float32(1.0 / self.per_unit)

    @property
    def levels(self) -> int:
        return self.most - self.least + self.has_zero

    @property
    def largest(self) -> float:
        return self.value(self.most)

    @property
    def lowest(self) -> float:
        return self.value(self.least)

    def value(self, k: int) -> float:
        """The number that k encodes."""
        return as_float32(k / self.per_unit + self.offset)

    def spell(self, k: int) -> str:
        """The bits of k."""
        if self.style == SIGN_FIRST:
            return f"{int(k < 0)} {abs(k):0{self.bits - 1}b}"
        return f"{k % (1 << self.bits):0{self.bits}b}"


Coding = FloatCode | IntegerCode


def float_code(exponent: int, mantissa: int, kind: str) -> FloatCode:
    """With the usual bias, 2^(E-1) - 1."""
    return FloatCode(exponent, mantissa, kind, (1 << (exponent - 1)) - 1)


def codes(code: Coding) -> Iterator[tuple[str, float]]:
    """Every code and its number, ascending, -0 before 0; NaN last."""
    if isinstance(code, IntegerCode):
        for k in range(code.least, code.most + 1):
            if k or code.has_zero:
                yield code.spell(k), code.value(k)
        return
    half = 1 << (code.bits - 1)
    ascending = [*range(2 * half - 1, half - 1, -1), *range(half)]
    decoded = [(code.spell(each), code.decode(each)) for each in ascending]
    yield from (pair for pair in decoded if not math.isnan(pair[1]))
    yield from (pair for pair in decoded if math.isnan(pair[1]))


def values(code: Coding | None) -> list[float]:
    """Every number that has a code, ascending, 0 once; none if there are more than 65,536 codes."""
    if code is None or 1 << code.bits > MOST_VALUES:
        return []
    return sorted({value + 0.0 for _, value in codes(code) if math.isfinite(value)})  # -0 + 0 is 0
