"""The shortest exact spelling of numbers."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

SHORT = 9
"""Maximum length of a plain decimal; longer ones are written with a power of two."""
FEW_DIGITS = 10**5


def number(value: float) -> str:
    """A float32 number: `448`, `0.0625`, `7·2^-9`; `0.1` for the float32 nearest to it."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Inf"
    plain = f"{value:.{SHORT}g}"
    if len(plain.lstrip("-")) <= SHORT and Fraction(plain) == Fraction(value):
        return plain
    factor, exponent = odd_part(value)
    if factor > FEW_DIGITS:
        return _as_float32(value)
    sign = "-" if value < 0 else ""
    return f"{sign}2^{exponent}" if factor == 1 else f"{sign}{factor}·2^{exponent}"


def power(value: float) -> str:
    """A number; powers of two below 1 always as powers: `2^-2`."""
    factor, exponent = odd_part(value)
    return f"2^{exponent}" if value > 0 and factor == 1 and exponent < 0 else number(value)


def odd_part(value: float) -> tuple[int, int]:
    """The odd f and the e of |value| = f · 2^e; 0 and 0 for 0."""
    if value == 0:
        return 0, 0
    above, below = abs(value).as_integer_ratio()
    zeros = (above & -above).bit_length() - 1
    return above >> zeros, zeros - (below.bit_length() - 1)


def _as_float32(value: float) -> str:
    """The fewest digits that round to this float32."""
    return next(text for digits in range(1, 18) if as_float32(float(text := f"{value:.{digits}g}")) == value)


def as_float32(value: float) -> float:
    """The float32 nearest to a number, ties to even."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
