"""QKeras's quantizers by their names, for comparisons with it: `quantized_bits(4,0,1,alpha='auto')` parses.

Their rules are those of QKeras 0.9.0, surprises included; docs/formats.md lists them. Its `binary` and `ternary` are
`qkeras_binary` and `qkeras_ternary` here, since they differ from qsweep's. A channel is an index of `axis`: QKeras
takes the last axis of a Keras kernel (inputs, outputs), which is the first of a PyTorch weight (outputs, inputs).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from qsweep.formats.declared import AXIS, SYMMETRIC, bitwidth
from qsweep.formats.family import Format
from qsweep.formats.words import BIT, SIGN, TERNARY, Word, fixed, power
from qsweep.parameter import BadValueError, Parameter

Alpha = float | str
AUTO = ("auto", "auto_po2")
"""The names of a computed alpha."""

QKERAS_BITWIDTH = bitwidth(1, 16)
PO2_BITWIDTH = bitwidth(2, 8)
INTEGER = Parameter(
    "integer",
    Annotated[int, Field(ge=-16, le=16)],
    "an integer from -16 to 16 (bits left of the point)",
    default=0,
    label="integer bits",
)
KEEP_NEGATIVE = Parameter("keep_negative", bool, "true or false (whether one bit is a sign)", default=True)
ALPHA = Parameter(
    "alpha",
    Annotated[float, Field(ge=2.0**-60, le=2.0**60)] | Literal["none", "auto", "auto_po2"],
    "none, auto, auto_po2 or a number above 0 (the scale of the result)",
    default="none",
)
COMPUTED_ALPHA = Parameter("alpha", Literal["auto", "auto_po2"], "auto or auto_po2 (the scale of the result)")
SLOPE = Parameter(
    "negative_slope",
    Annotated[float, Field(ge=0, le=1)],
    "0 or a power of two up to 1 (the slope below 0)",
    default=0.0,
)
MAX_VALUE = Parameter(
    "max_value",
    Annotated[float, Field(ge=2.0**-60, le=2.0**60)] | Literal["none"],
    "none or a number above 0",
    default="none",
)
QUADRATIC = Parameter("quadratic_approximation", bool, "true or false (whether exponents are even)", default=False)
USE_01 = Parameter("use_01", bool, "true or false (0 and 1 instead of -1 and 1)", default=False)
QKERAS_THRESHOLD = Parameter(
    "threshold",
    Annotated[float, Field(ge=0, le=2.0**60)] | Literal["none"],
    "none (0.33) or a number, 0 or above",
    default="none",
)


class QKeras(Format):
    """The base class of QKeras's quantizers."""

    rule: ClassVar[str] = "qkeras"
    code: ClassVar[None] = None
    is_emulated: ClassVar[bool] = True


@dataclass(frozen=True)
class QuantizedBits(QKeras):
    """Fixed point of `bitwidth` bits, `integer` of them left of the point, times alpha.

    A number as `alpha` only multiplies the result. `auto` is always symmetric: each channel has the scale 2 max |x|
    divided by the number of steps, ties away from zero. `auto_po2` rounds this scale to a power of two (log2, ties to
    even) and refines it five times by least squares. One bit with a sign is the sign; 0 counts as positive.

    Raises:
        BadValueError: one bit with `auto`, where QKeras divides by 0.
    """

    family: ClassVar[str] = "quantized_bits"
    short: ClassVar[str] = "quantized_bits"
    parameters: ClassVar[tuple[Parameter, ...]] = (QKERAS_BITWIDTH, INTEGER, SYMMETRIC, KEEP_NEGATIVE, ALPHA, AXIS)
    summary: ClassVar[str] = "QKeras: fixed point times alpha"
    examples: ClassVar[tuple[str, ...]] = ("quantized_bits(4,0,1)",)

    bitwidth: int
    integer: int = 0
    symmetric: bool = False
    keep_negative: bool = True
    alpha: Alpha = "none"
    axis: int | str = "auto"

    def __post_init__(self) -> None:
        if self.bitwidth == 1 and self.alpha in AUTO:
            raise BadValueError(f"quantized_bits of one bit has no step to scale by alpha {self.alpha}: it needs 2")

    @property
    def word(self) -> Word:
        if self.keep_negative and self.bitwidth == 1:
            return SIGN
        levels = 1 << (self.bitwidth - self.keep_negative)
        lowest = (self.symmetric or self.alpha in AUTO) - levels if self.keep_negative else 0
        own = fixed(lowest, levels - 1, self.bitwidth - self.keep_negative - self.integer)
        return replace(own, bits=self.bitwidth)

    @property
    def drifts(self) -> bool:
        return self.alpha == "auto"


@dataclass(frozen=True)
class QuantizedRelu(QKeras):
    """ReLU, then unsigned fixed point; with a `negative_slope`, one bit is used for the values below 0.

    Stochastic rounding gives half steps, as in QKeras's training: one bit more than `bitwidth`.

    Raises:
        BadValueError: a slope that is not a power of two, or that leaves no bit.
    """

    family: ClassVar[str] = "quantized_relu"
    short: ClassVar[str] = "quantized_relu"
    parameters: ClassVar[tuple[Parameter, ...]] = (QKERAS_BITWIDTH, INTEGER, SLOPE)
    summary: ClassVar[str] = "QKeras: ReLU and unsigned fixed point"
    examples: ClassVar[tuple[str, ...]] = ("quantized_relu(3,1)",)

    bitwidth: int
    integer: int = 0
    negative_slope: float = 0.0

    def __post_init__(self) -> None:
        if self.negative_slope and not (self.negative_slope.as_integer_ratio()[0] == 1 and self.bitwidth > 1):
            raise BadValueError("quantized_relu with a slope needs a power of two up to 1, and 2 bits")

    @property
    def word(self) -> Word:
        levels = 1 << (self.bitwidth - (self.negative_slope > 0))
        lowest = -int(levels * self.negative_slope)
        return replace(fixed(lowest, levels - 1, levels.bit_length() - 1 - self.integer), bits=self.bitwidth)


@dataclass(frozen=True)
class QuantizedPo2(QKeras):
    """Signed powers of two, nearest by exponent: thresholds at √2 · 2^e. 0 becomes the smallest power."""

    family: ClassVar[str] = "quantized_po2"
    short: ClassVar[str] = "quantized_po2"
    parameters: ClassVar[tuple[Parameter, ...]] = (PO2_BITWIDTH, MAX_VALUE, QUADRATIC)
    summary: ClassVar[str] = "QKeras: signed powers of two, nearest by exponent"
    examples: ClassVar[tuple[str, ...]] = ("quantized_po2(4,1)",)

    bitwidth: int
    max_value: float | str = "none"
    quadratic_approximation: bool = False

    @property
    def word(self) -> Word:
        return _power(self.bitwidth, self.max_value, is_signed=True)


@dataclass(frozen=True)
class QuantizedReluPo2(QKeras):
    """Powers of two, nearest by exponent; 0 and values below it become the smallest power, not 0."""

    family: ClassVar[str] = "quantized_relu_po2"
    short: ClassVar[str] = "quantized_relu_po2"
    parameters: ClassVar[tuple[Parameter, ...]] = (PO2_BITWIDTH, MAX_VALUE, QUADRATIC)
    summary: ClassVar[str] = "QKeras: positive powers of two, nearest by exponent"
    examples: ClassVar[tuple[str, ...]] = ("quantized_relu_po2(4,4)",)

    bitwidth: int
    max_value: float | str = "none"
    quadratic_approximation: bool = False

    @property
    def word(self) -> Word:
        return _power(self.bitwidth, self.max_value, is_signed=False)


def _power(bitwidth: int, max_value: float | str, is_signed: bool) -> Word:
    """Exponents from -2^k to 2^k - 1, no larger than that of `max_value`; one bit of `bitwidth` is the exponent's sign
    unless all powers are at most 1."""
    limit = math.inf if isinstance(max_value, str) else round(math.log2(max_value))
    span = 1 << (bitwidth - is_signed - (limit > 0))
    return power(-span, int(min(span - 1, limit)), bitwidth, is_signed)


@dataclass(frozen=True)
class QKerasBinary(QKeras):
    """The sign (0 counts as positive) times alpha; `auto` fits alpha to each channel by least squares.

    Stochastic rounding first rounds x / (2 max |x|) of a channel to eighths, and gives zeros a random sign.
    """

    family: ClassVar[str] = "qkeras_binary"
    short: ClassVar[str] = "qkeras_binary"
    parameters: ClassVar[tuple[Parameter, ...]] = (USE_01, ALPHA, AXIS)
    summary: ClassVar[str] = "QKeras: the sign times alpha"
    examples: ClassVar[tuple[str, ...]] = ("qkeras_binary",)
    is_sign: ClassVar[bool] = True
    draws: ClassVar[int] = 2

    use_01: bool = False
    alpha: Alpha = "none"
    axis: int | str = "auto"

    @property
    def word(self) -> Word:
        return BIT if self.use_01 else SIGN

    @property
    def drifts(self) -> bool:
        return self.alpha in AUTO


@dataclass(frozen=True)
class QKerasTernary(QKeras):
    """-1, 0 or 1 by a threshold, times alpha; `auto` fits scale and threshold to each channel, five times.

    Raises:
        BadValueError: a threshold with `auto`, which has its own.
    """

    family: ClassVar[str] = "qkeras_ternary"
    short: ClassVar[str] = "qkeras_ternary"
    parameters: ClassVar[tuple[Parameter, ...]] = (ALPHA, QKERAS_THRESHOLD, AXIS)
    summary: ClassVar[str] = "QKeras: -1, 0 or 1 times alpha"
    examples: ClassVar[tuple[str, ...]] = ("qkeras_ternary",)
    is_sign: ClassVar[bool] = True
    word: ClassVar[Word] = TERNARY
    draws: ClassVar[int] = 5

    alpha: Alpha = "none"
    threshold: float | str = "none"
    axis: int | str = "auto"

    def __post_init__(self) -> None:
        if self.alpha in AUTO and self.threshold != "none":
            raise BadValueError(f"qkeras_ternary with alpha {self.alpha} computes its own threshold: leave it out")

    @property
    def drifts(self) -> bool:
        return self.alpha in AUTO


@dataclass(frozen=True)
class StochasticBinary(QKeras):
    """Nearest: qkeras_binary. Stochastic: 1 with probability sigmoid(6 x / std), std 1 unless alpha is computed."""

    family: ClassVar[str] = "stochastic_binary"
    short: ClassVar[str] = "stochastic_binary"
    parameters: ClassVar[tuple[Parameter, ...]] = (ALPHA, AXIS)
    summary: ClassVar[str] = "QKeras: the sign times alpha, stochastic in training"
    examples: ClassVar[tuple[str, ...]] = ("stochastic_binary",)
    is_sign: ClassVar[bool] = True
    word: ClassVar[Word] = SIGN

    alpha: Alpha = "none"
    axis: int | str = "auto"

    @property
    def drifts(self) -> bool:
        return self.alpha in AUTO


@dataclass(frozen=True)
class StochasticTernary(QKeras):
    """Nearest: qkeras_ternary. Stochastic: half the sum of two random signs around the two thresholds.

    Alpha is always computed: QKeras refuses a number in training.
    """

    family: ClassVar[str] = "stochastic_ternary"
    short: ClassVar[str] = "stochastic_ternary"
    parameters: ClassVar[tuple[Parameter, ...]] = (COMPUTED_ALPHA, AXIS)
    summary: ClassVar[str] = "QKeras: -1, 0 or 1 times alpha, stochastic in training"
    examples: ClassVar[tuple[str, ...]] = ("stochastic_ternary(auto)",)
    is_sign: ClassVar[bool] = True
    word: ClassVar[Word] = TERNARY
    draws: ClassVar[int] = 2

    alpha: str
    axis: int | str = "auto"

    @property
    def drifts(self) -> bool:
        return True


@dataclass(frozen=True)
class Bernoulli(QKeras):
    """0 or 1, times alpha: 1 with probability sigmoid(6 x / std). Nearest (QKeras has none): 1 where x ≥ 0."""

    family: ClassVar[str] = "bernoulli"
    short: ClassVar[str] = "bernoulli"
    parameters: ClassVar[tuple[Parameter, ...]] = (ALPHA, AXIS)
    summary: ClassVar[str] = "QKeras: 0 or 1 times alpha, stochastic in training"
    examples: ClassVar[tuple[str, ...]] = ("bernoulli",)
    is_sign: ClassVar[bool] = True
    word: ClassVar[Word] = BIT

    alpha: Alpha = "none"
    axis: int | str = "auto"

    @property
    def drifts(self) -> bool:
        return self.alpha in AUTO


FAMILIES: tuple[type[Format], ...] = (
    QuantizedBits, QuantizedRelu, QuantizedPo2, QuantizedReluPo2, QKerasBinary, QKerasTernary,
    StochasticBinary, StochasticTernary, Bernoulli,
)  # fmt: skip
