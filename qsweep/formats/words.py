"""Word lengths: what multipliers and accumulators of a processor must hold for operands of given formats.

Fixed-point results are bounded by interval arithmetic on integers, so that no sum can overflow and no bit is wasted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from qsweep.formats.codes import Coding, FloatCode

Kind = Literal["fixed", "power", "sign", "ternary", "bit", "float"]


@dataclass(frozen=True)
class Word:
    """One element of a format, as hardware holds it.

    Attributes:
        kind: `fixed` (an integer), `power` (a power of two, with a sign or not), `sign` (-1, 1), `ternary` (-1, 0, 1),
            `bit` (0, 1) or `float`.
        bits: its width.
        lowest: the least integer of `fixed`; the least exponent of `power`.
        highest: the largest of them.
        fraction: bits after the binary point of `fixed`: the value is an integer times 2^-fraction.
        is_signed: whether it can be negative.
    """

    kind: Kind
    bits: int
    lowest: int = 0
    highest: int = 0
    fraction: int = 0
    is_signed: bool = True


def fixed(lowest: int, highest: int, fraction: int = 0) -> Word:
    """The shortest word for the integers from `lowest` to `highest`: two's complement where one is negative."""
    if lowest >= 0:
        return Word("fixed", max(highest.bit_length(), 1), lowest, highest, fraction, is_signed=False)
    return Word("fixed", max((-lowest - 1).bit_length(), highest.bit_length()) + 1, lowest, highest, fraction)


def power(least_exponent: int, largest_exponent: int, bits: int, is_signed: bool = True) -> Word:
    """A power of two with an exponent from `least_exponent` to `largest_exponent`, stored in `bits` bits."""
    return Word("power", bits, least_exponent, largest_exponent, is_signed=is_signed)


def floating(bits: int) -> Word:
    """A floating-point number of this width."""
    return Word("float", bits)


SIGN = Word("sign", 1, -1, 1)
TERNARY = Word("ternary", 2, -1, 1)
BIT = Word("bit", 1, 0, 1, is_signed=False)


def word_of(code: Coding) -> Word:
    """The word of an element with this code, in units of the format's scale if it has one."""
    if isinstance(code, FloatCode):
        return floating(code.bits)
    if (code.least, code.most) in ((-1, 1), (0, 1)):
        return TERNARY if code.least else BIT
    mantissa, exponent = math.frexp(code.per_unit)
    fraction = exponent - 1 if mantissa == HALF else 0  # another factor is a scale, which multiplies sums
    return replace(fixed(code.least, code.most, fraction), bits=code.bits)


HALF = 0.5
"""The mantissa that `frexp` returns for a power of two."""


def as_fixed(word: Word) -> Word:
    """The fixed-point word that holds all values of a word that is not floating point."""
    if word.kind != "power":
        return fixed(word.lowest, word.highest, word.fraction)
    largest = 1 << (word.highest - word.lowest)
    return fixed(-largest if word.is_signed else 1, largest, -word.lowest)


def product(a: Word, b: Word) -> Word:
    """All products of two words."""
    if "float" in (a.kind, b.kind):
        return floating(max(word.bits for word in (a, b) if word.kind == "float"))
    if a.kind == b.kind == "sign":
        return SIGN
    a, b = as_fixed(a), as_fixed(b)
    ends = [x * y for x in (a.lowest, a.highest) for y in (b.lowest, b.highest)]
    return fixed(min(ends), max(ends), a.fraction + b.fraction)


def total(term: Word, count: int, bias: Word | None = None) -> Word:
    """All sums of `count` terms and a bias. A floating-point sum is as wide as its widest operand.

    Args:
        count: at least 1.
    """
    floats = [word.bits for word in (term, bias) if word is not None and word.kind == "float"]
    if floats:
        return floating(max(floats))
    term = as_fixed(term)
    lowest, highest, fraction = count * term.lowest, count * term.highest, term.fraction
    if bias is None:
        return fixed(lowest, highest, fraction)
    bias = as_fixed(bias)
    shared = max(fraction, bias.fraction)
    return fixed(
        (lowest << (shared - fraction)) + (bias.lowest << (shared - bias.fraction)),
        (highest << (shared - fraction)) + (bias.highest << (shared - bias.fraction)),
        shared,
    )
