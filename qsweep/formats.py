"""The catalog of number formats: frozen values with a short name that parses back. Data only, no torch.

A format says which numbers exist; how a tensor gets there is qsweep.rounding's part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from pydantic import Field

from qsweep.errors import UserError, unknown
from qsweep.parameters import BadValueError, Parameter

ROUNDINGS = ("nearest", "stochastic")
"""nearest: ties to even. stochastic: up with a probability equal to the distance from the lower neighbour."""

BITWIDTH = Parameter(
    "bitwidth", Annotated[int, Field(ge=1, le=16)], "an integer from 1 to 16 (bits a value)", stacks=True
)
SCALE = Parameter(
    "scale",
    Annotated[float, Field(gt=0, le=2.0**60, allow_inf_nan=False)],
    "a number above 0 (levels span ±1/scale)",
    default=1.0,
    stacks=True,
)
ZERO = Parameter("zero", bool, "true or false (whether 0 is a level)", default=True, stacks=True)


@dataclass(frozen=True)
class Float32:
    """IEEE 754 binary32, the arithmetic of the training itself: nothing is rounded."""

    family: ClassVar[str] = "float32"
    parameters: ClassVar[tuple[Parameter, ...]] = ()
    summary: ClassVar[str] = "IEEE 754 single precision; nothing is rounded"

    @property
    def name(self) -> str:
        return self.family


@dataclass(frozen=True)
class Range:
    """2^b levels k / 2^(b-1) / scale, k from -2^(b-1) to 2^(b-1) - 1: a fixed range of ±1/scale, cut finer by each bit.

    The quantizer of "Training with quantized weights". A value w is quantized in four steps:

        x = w · scale · 2^(b-1)
        r = x rounded to an integer (nearest: ties to even; stochastic: to a neighbour, unbiased)
        zero: false only: where r = 0, r becomes the sign of w (+1 or -1; 0 where w is exactly 0)
        k = r clipped to [-2^(b-1), 2^(b-1) - 1], and the stored weight is k / 2^(b-1) / scale

    What follows from the letter of this law:
      - The levels are not symmetric: the lowest is -1/scale, the highest one step below +1/scale.
      - One bit has the levels -1/scale and 0. `zero: false` does not make it {-1, +1}: a result of 0 is moved to +1 or
        -1, then +1 is clipped back to 0. Nearest and stochastic alike, a positive weight becomes 0, so a 1-bit layer
        has no positive weight at all.
      - Two bits have -1, -1/2, 0 and +1/2 (each ÷ scale); without 0, three levels are left.
      - `zero: false` after stochastic rounding is biased: every |x| < 1 ends at ±1, never between.
      - A weight that is exactly 0 stays 0 under `zero: false`: it has no sign to move by.

    Source: the RangeQuantizeCallback of that document, whose text describes another set, [-2^(b-1), 2^(b-1)] without 0.
    """

    family: ClassVar[str] = "range"
    parameters: ClassVar[tuple[Parameter, ...]] = (BITWIDTH, SCALE, ZERO)
    summary: ClassVar[str] = "levels k/2^(b-1)/scale, two's complement, the range ±1/scale fixed"

    bitwidth: int
    scale: float = 1.0
    zero: bool = True

    @property
    def name(self) -> str:
        return f"{self.family}{self.bitwidth}"

    @property
    def lowest(self) -> int:
        """The least integer level, k = -2^(b-1)."""
        return -(1 << (self.bitwidth - 1))

    @property
    def highest(self) -> int:
        """The greatest integer level, k = 2^(b-1) - 1."""
        return -self.lowest - 1

    @property
    def steps_per_unit(self) -> float:
        """Levels in an interval of length 1: scale · 2^(b-1), the reciprocal of the step."""
        return self.scale * 2.0 ** (self.bitwidth - 1)

    @property
    def step(self) -> float:
        """Distance between neighbouring levels, 2^(1-b)/scale."""
        return 1.0 / self.steps_per_unit


Format = Float32 | Range
FAMILIES: dict[str, type[Float32] | type[Range]] = {f.family: f for f in (Float32, Range)}


def make(family: str, parameters: dict[str, Any]) -> Format:
    """The format of a family with these parameters; names that it does not have are left out."""
    cls = FAMILIES[family]
    return cls(**{f.name: parameters[f.name] for f in fields(cls) if f.name in parameters})


def split_name(text: str) -> tuple[str, dict[str, Any]]:
    """A short name as its family and the parameters that it sets: `range4` → ("range", {"bitwidth": 4}).

    Raises:
        BadValueError: no family has this name, or its number is out of range.
    """
    if text in FAMILIES:
        return text, {}
    match = re.fullmatch(r"([a-z]+)([0-9]{1,4})", text)
    if not match or BITWIDTH not in parameters_of(match[1]):
        raise BadValueError(unknown("format", text, tuple(FAMILIES)))
    return match[1], {"bitwidth": BITWIDTH.check(int(match[2]))}


def parameters_of(family: str) -> tuple[Parameter, ...]:
    """The parameters of a family; none of a name that is no family's."""
    return FAMILIES[family].parameters if family in FAMILIES else ()


def parse(text: str) -> Format:
    """The format that a short name means, in full: `range4`, `float32`.

    Raises:
        UserError: unknown name, or one that leaves the bitwidth open.
    """
    try:
        family, parameters = split_name(text)
    except BadValueError as problem:
        raise UserError(str(problem)) from None
    if family == Range.family and not parameters:
        raise UserError(f"format '{text}' needs a bitwidth, as in '{text}4'")
    return make(family, parameters)
