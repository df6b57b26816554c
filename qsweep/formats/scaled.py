"""Formats with scales: elements times a scale per tensor, channel or group.

The scale s of a group is computed from its values, x / s is rounded to an element, and the result is element · s. This
is computed in float64, and the result is rounded to float32 once. Where s is a power of two, only the rounding to an
element is inexact. A computed scale that no standard defines is halved where a value under it is not representable in
float32. A group with a NaN or an Inf has no scale, and all of it becomes NaN. A group of zeros does not change, if
the format has a 0.

A scale `drifts` if it follows the values in steps finer than a factor of two, or is the whole magnitude of a value:
then stored values change while their codes stay the same. Under powers of two, an unchanged value also keeps its
place on the grid.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from qsweep.formats.codes import SIGN_FIRST, SIGNED, UNSIGNED, Coding, FloatCode, IntegerCode
from qsweep.formats.declared import (
    ARITHMETIC,
    AXIS,
    COMPAT,
    ELEMENT,
    PER,
    SCALING,
    SYMMETRIC,
    TENSOR_SCALE,
    THRESHOLD,
    ZERO,
    bitwidth,
)
from qsweep.formats.elements import ElementType, Floating, Grid
from qsweep.formats.family import Format
from qsweep.formats.floats import Float
from qsweep.formats.scale import E4M3Scale, Ends, GivenEnds, GivenScale, NumberScale, Per, PowerScale, Scale
from qsweep.formats.words import SIGN, Word, power
from qsweep.parameter import BadValueError, Parameter

MXINT8 = "mxint8"
"""A part of the arithmetic that only mxint8 has: near 2^127 its scales once were half those of the standard."""

BLOCK_BITWIDTH = bitwidth(1, 24)
UNIFORM_BITWIDTH = bitwidth(1, 16)
PO2_BITWIDTH = bitwidth(2, 8)
PO2_SCALING = replace(
    SCALING,
    type=Annotated[float, Field(ge=2.0**-60, le=2.0**60)] | Literal["computed"],
    expected="computed or the largest magnitude, a power of two",
)

Axis = int | str
Scaling = float | str


class Scaled(Format):
    """Formats whose elements are multiplied by scales."""

    @property
    @abstractmethod
    def per(self) -> Per:
        """Which values share a scale: `tensor`, `channel`, or how many along the axis."""

    @property
    @abstractmethod
    def axis(self) -> Axis:
        """The axis of the channels, or along which groups run; `auto` if not set."""

    @property
    @abstractmethod
    def group_scale(self) -> Scale: ...


@dataclass(frozen=True)
class Block(Scaled):
    """Block floating point: integers of W bits, sign included, under one exponent per tensor, channel or group.

    With E the exponent of a group's largest magnitude (2^E ≤ max |x| < 2^(E+1)), the values are k · 2^(E + 2 - W), k
    from -(2^(W-1) - 1) to 2^(W-1) - 1: sign and magnitude. A value that would round to 2^(E+1) becomes the largest.

    `compat: qtorch` is QPyTorch's `block_quantize`, with its own rules; its `dim: -1` is `per: tensor` here, and its
    `dim: k` is `per: channel, axis: k`.

    Raises:
        BadValueError: one bit, which has only 0 (by QPyTorch's rules it has the values of two bits, rounded coarser).
    """

    family: ClassVar[str] = "block"
    short: ClassVar[str] = "block{bitwidth}"
    parameters: ClassVar[tuple[Parameter, ...]] = (BLOCK_BITWIDTH, PER, AXIS, COMPAT)
    summary: ClassVar[str] = "block floating point: integers of W bits under one shared exponent"
    examples: ClassVar[tuple[str, ...]] = ("block8",)

    bitwidth: int
    per: Per = "tensor"
    axis: Axis = "auto"
    compat: str = "none"

    def __post_init__(self) -> None:
        if self.bitwidth == 1 and self.compat == "none":
            raise BadValueError("block1 has no value but 0: a sign and one bit of magnitude need block2")
        if self.compat == "qtorch" and isinstance(self.per, int):
            raise BadValueError("QPyTorch has no groups: per tensor or channel")

    @property
    def elements(self) -> Grid:
        highest = max((1 << (self.bitwidth - 1)) - 1, 1)
        return Grid(-highest, highest)

    @property
    def shift(self) -> int:
        """The scale of a group is 2^(E + shift)."""
        return 2 - max(self.bitwidth, 2)

    @property
    def rule(self) -> str:
        return "exponent" if self.compat == "none" else f"{self.compat} blocks"

    @property
    def is_emulated(self) -> bool:
        return self.compat != "none"

    @property
    def code(self) -> IntegerCode:
        """QPyTorch's block1 has the values of block2."""
        return IntegerCode(max(self.bitwidth, 2), self.elements.lowest, self.elements.highest, SIGN_FIRST)

    @property
    def group_scale(self) -> PowerScale:
        return PowerScale(self.per, shift=self.shift)


@dataclass(frozen=True)
class MX(Scaled):
    """OCP Microscaling: 32 values along a row share a power of two, an E8M0 scale.

    With E the exponent of the largest magnitude and e_max that of the element's largest number, the scale is
    2^(E - e_max), its exponent clamped to ±127. Elements saturate. `int8` is k / 64 in two's complement; with the
    scale 2^127 its lowest code, -2^128, is not representable in float32, and -127/64 takes its place. Where the scale
    is clamped at 2^-127, elements have fewer significant bits. A row whose length is not a multiple of 32 ends with a
    shorter block.

    A value between the largest element and 2^(e_max + 1) saturates in every rounding mode, so stochastic rounding is
    biased toward zero there. For N(0, 1), saturation costs the largest value of a block 4.4 % on average in mxfp4,
    1.2 % in mxfp8 and mxfp6_e3m2, and 0.3 % in mxfp6 (400,000 blocks); rounding comes on top. The loss depends on where
    the largest values lie between two powers of two: for N(0, 0.75²) it is 7.3 % in mxfp4.

    Names: mxfp8 (e4m3), mxfp8_e5m2, mxfp6 (e2m3), mxfp6_e3m2, mxfp4 (e2m1), mxint8.

    Source: OCP Microscaling Formats (MX) Specification 1.0 (2023), 5.2, 5.3 and 6.3.
    """

    family: ClassVar[str] = "mx"
    short: ClassVar[str] = "mx"
    parameters: ClassVar[tuple[Parameter, ...]] = (ELEMENT, AXIS)
    summary: ClassVar[str] = "OCP microscaling: 32 values under an E8M0 scale; mxfp8, mxfp6, mxfp4, mxint8"
    words: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "mxfp8": {"element": "e4m3"},
        "mxfp8_e5m2": {"element": "e5m2"},
        "mxfp6": {"element": "e2m3"},
        "mxfp6_e3m2": {"element": "e3m2"},
        "mxfp4": {"element": "e2m1"},
        "mxint8": {"element": "int8"},
    }
    rule: ClassVar[str] = "e8m0"
    per: ClassVar[int] = 32

    element: str = "e4m3"
    axis: Axis = "auto"

    @property
    def elements(self) -> ElementType:
        if self.element == "int8":
            return Grid(-128, 127, 2.0**-6)
        return self._float.elements

    @property
    def _float(self) -> Float:
        """The format of the elements, if they are floating-point numbers."""
        return Float(int(self.element[1]), int(self.element[3]), saturate=True)

    @property
    def shift(self) -> int:
        """The scale of a group is 2^(E + shift)."""
        return 1 - math.frexp(self.elements.largest)[1]

    @property
    def code(self) -> Coding:
        return IntegerCode(8, -128, 127, per_unit=64) if self.element == "int8" else self._float.code

    @property
    def group_scale(self) -> PowerScale:
        return PowerScale(self.per, element=2.0**-self.shift, kind="a power of two, E8M0")

    @property
    def parts(self) -> frozenset[str]:
        return frozenset({self.family, MXINT8} if self.element == "int8" else {self.family})


@dataclass(frozen=True)
class NVFP4(Scaled):
    """NVIDIA's 4-bit format: e2m1 elements, 16 along a row under an e4m3 scale, and a float32 scale for the tensor.

    The tensor's scale is t = max |x| / (6 · 448), in float32. A block's scale is max |x| / 6 / t rounded to e4m3, ties
    to even, and at least e4m3's smallest number, so that it is never 0. An element is x / (scale · t). With
    `tensor_scale: false`, t is 1, and values above 2688 in magnitude saturate.

    `arithmetic: nvidia` follows NVIDIA's published reference operation by operation, in float32: e = 2688 / max |x|;
    the block's scale s = (its largest magnitude / 6) · e, rounded to e4m3, may be 0, and then the block is 0; an
    element is x · (1 / (s · (1 / e))), clipped to ±6. It differs from `exact` where a block's scale underflows (a block
    of 0.002 after a block of 1000: 0 instead of 0.00218) and in ties (-0.5 beside 4: -0.667 instead of -0.333).

    Sources: NVIDIA, "Pretraining Large Language Models with NVFP4" (2025), section 2 and appendix; for `nvidia`,
    NVFP4QuantizerRef of Transformer Engine 2.8, without its Hadamard transform and 16×16 blocks.

    Raises:
        BadValueError: `nvidia` without the tensor's scale, which the reference always has.
    """

    family: ClassVar[str] = "nvfp4"
    short: ClassVar[str] = "nvfp4"
    parameters: ClassVar[tuple[Parameter, ...]] = (TENSOR_SCALE, AXIS, ARITHMETIC)
    summary: ClassVar[str] = "NVIDIA's FP4: e2m1 elements, an e4m3 scale per 16, a float32 scale per tensor"
    examples: ClassVar[tuple[str, ...]] = ("nvfp4",)
    per: ClassVar[int] = 16

    tensor_scale: bool = True
    axis: Axis = "auto"
    arithmetic: str = "exact"

    def __post_init__(self) -> None:
        if self.arithmetic == "nvidia" and not self.tensor_scale:
            raise BadValueError("nvfp4 with arithmetic nvidia has a tensor scale: leave tensor_scale out")

    @property
    def elements(self) -> Floating:
        return Float(2, 1).elements

    @property
    def rule(self) -> str:
        return "e4m3" if self.arithmetic == "exact" else self.arithmetic

    @property
    def code(self) -> FloatCode:
        return Float(2, 1).code

    @property
    def group_scale(self) -> E4M3Scale:
        return E4M3Scale(self.per, self.tensor_scale)

    @property
    def drifts(self) -> bool:
        return True


@dataclass(frozen=True)
class Uniform(Scaled):
    """2^B evenly spaced levels from the smallest to the largest value; or, `symmetric`, 2^B - 1 around 0.

    From lo to hi: level k = (lo · (n - k) + hi · k) / n with n = 2^B - 1, so both ends are levels, but 0 need not be.
    Symmetric: k · s with s = max |x| / (2^(B-1) - 1) and |k| ≤ 2^(B-1) - 1, like int8 in hardware.
    `scaling` as a number m fixes the ends at ±m; `po2` (only with `symmetric`) makes s the next power of two.
    From lo to hi the rounding modes act on k, so `zero` is `down`.

    Source: least to greatest as in "Weight quantization after training"; symmetric as in Jacob et al. (2018), 3.

    Raises:
        BadValueError: `po2` where lo and hi are not symmetric; one symmetric bit, which has only 0.
    """

    family: ClassVar[str] = "uniform"
    short: ClassVar[str] = "uniform{bitwidth}"
    parameters: ClassVar[tuple[Parameter, ...]] = (UNIFORM_BITWIDTH, SYMMETRIC, SCALING, PER, AXIS)
    summary: ClassVar[str] = "2^B levels from the smallest to the largest value; symmetric: integers times a scale"
    examples: ClassVar[tuple[str, ...]] = ("uniform8",)

    bitwidth: int
    symmetric: bool = False
    scaling: Scaling = "computed"
    per: Per = "tensor"
    axis: Axis = "auto"

    def __post_init__(self) -> None:
        if self.scaling == "po2" and not self.symmetric:
            raise BadValueError("uniform with scaling po2 needs symmetric: true (lo and hi have no common scale)")
        if self.symmetric and self.bitwidth == 1:
            raise BadValueError("uniform1 with symmetric has no value but 0: it needs 2 bits (or binary)")

    @property
    def elements(self) -> Grid:
        if not self.symmetric:
            return Grid(0, (1 << self.bitwidth) - 1)
        highest = (1 << (self.bitwidth - 1)) - 1
        return Grid(-highest, highest)

    @property
    def rule(self) -> str:
        if not self.symmetric:
            return "ends"
        return "next power" if self.scaling == "po2" else "largest"

    @property
    def code(self) -> IntegerCode:
        style = SIGNED if self.symmetric else UNSIGNED
        return IntegerCode(self.bitwidth, self.elements.lowest, self.elements.highest, style)

    @property
    def group_scale(self) -> Scale:
        highest = self.elements.highest
        if self.scaling == "po2":
            return PowerScale(self.per, element=highest, is_above=True)
        if isinstance(self.scaling, str):
            return NumberScale(self.per, highest) if self.symmetric else Ends(self.per)
        given = self.scaling
        return GivenScale(self.per, given, highest) if self.symmetric else GivenEnds(self.per, given)

    @property
    def drifts(self) -> bool:
        return self.scaling == "computed"


@dataclass(frozen=True)
class Binary(Scaled):
    """Two values, -s and s. Nearest: the sign; 0 counts as positive.

    s is the mean magnitude of the group (`scaling: computed`; `po2`: the power of two nearest to it) or a number.
    Stochastic: s with probability (x/s + 1) / 2, clipped to [0, 1]. `zero` and `away` also give the sign.

    Sources: Courbariaux et al., BinaryConnect (2015), for the probability; Rastegari et al., XNOR-Net (2016), for s.
    """

    family: ClassVar[str] = "binary"
    short: ClassVar[str] = "binary"
    parameters: ClassVar[tuple[Parameter, ...]] = (SCALING, PER, AXIS)
    summary: ClassVar[str] = "-s and s, s the mean magnitude or a number"
    examples: ClassVar[tuple[str, ...]] = ("binary",)
    is_sign: ClassVar[bool] = True
    rule: ClassVar[str] = "sign"
    code: ClassVar[IntegerCode] = IntegerCode(1, 0, 1, UNSIGNED, per_unit=0.5, offset=-1.0)
    word: ClassVar[Word] = SIGN

    scaling: Scaling = "computed"
    per: Per = "tensor"
    axis: Axis = "auto"

    @property
    def group_scale(self) -> Scale:
        return _mean_scale(self.per, self.scaling)

    @property
    def drifts(self) -> bool:
        return isinstance(self.scaling, str)


@dataclass(frozen=True)
class Ternary(Scaled):
    """Three values, -s, 0 and s. Nearest: 0 up to and including the threshold in magnitude, otherwise ±s by the sign.

    The threshold is 0.7 times the mean magnitude of the group (`computed`) or a number. s is the mean magnitude of the
    values above the threshold (`computed`; `po2`: the power of two nearest to it) or a number. All other modes round
    x / s to -1, 0 or 1 and ignore the threshold.

    Source: Li & Liu, Ternary Weight Networks (2016), eqs. 5 and 6.
    """

    family: ClassVar[str] = "ternary"
    short: ClassVar[str] = "ternary"
    parameters: ClassVar[tuple[Parameter, ...]] = (SCALING, THRESHOLD, PER, AXIS)
    summary: ClassVar[str] = "-s, 0 and s; 0 up to a threshold"
    examples: ClassVar[tuple[str, ...]] = ("ternary",)
    is_sign: ClassVar[bool] = True
    rule: ClassVar[str] = "threshold"
    code: ClassVar[IntegerCode] = IntegerCode(2, -1, 1)

    scaling: Scaling = "computed"
    threshold: float | str = "computed"
    per: Per = "tensor"
    axis: Axis = "auto"

    @property
    def elements(self) -> Grid:
        return Grid(-1, 1)

    @property
    def group_scale(self) -> Scale:
        return _mean_scale(self.per, self.scaling)

    @property
    def drifts(self) -> bool:
        return isinstance(self.scaling, str)


@dataclass(frozen=True)
class PowerOfTwo(Scaled):
    """Signed powers of two: s, s/2, s/4 …, 2^(B-1) of each sign, one less where 0 is a value.

    s is the power of two nearest to the largest magnitude of the group (`computed`), or a number, a power of two.
    Rounding is to the nearest value, not to the nearest exponent: 1.4 · 2^e becomes 2^e, and the tie 1.5 · 2^e the
    larger one. With `zero: false`, magnitudes below the smallest power become that power, with their sign; 0 counts as
    positive.

    Raises:
        BadValueError: a scaling that is not a power of two.
    """

    family: ClassVar[str] = "po2"
    short: ClassVar[str] = "po2_{bitwidth}"
    parameters: ClassVar[tuple[Parameter, ...]] = (PO2_BITWIDTH, ZERO, PO2_SCALING, PER, AXIS)
    summary: ClassVar[str] = "powers of two of both signs, and 0"
    examples: ClassVar[tuple[str, ...]] = ("po2_4",)
    rule: ClassVar[str] = "nearest power"

    bitwidth: int
    zero: bool = True
    scaling: Scaling = "computed"
    per: Per = "tensor"
    axis: Axis = "auto"

    def __post_init__(self) -> None:
        if not isinstance(self.scaling, str) and math.frexp(self.scaling)[0] != HALF:
            raise BadValueError(f"po2 with scaling {self.scaling:g}: it needs a power of two, or computed")

    @property
    def elements(self) -> Floating:
        """With the largest power 2^0."""
        exponents = (1 << (self.bitwidth - 1)) - self.zero
        return Floating(0, 1 - exponents, 1.0, 1.0, self.zero)

    @property
    def code(self) -> FloatCode:
        """A sign, and the power counted from the smallest: there is no standard code."""
        field = self.bitwidth - 1
        return FloatCode(field, 0, "finite", (1 << field) - 1, self.zero)

    @property
    def word(self) -> Word:
        return power(self.elements.least_exponent, 0, self.bitwidth)

    @property
    def group_scale(self) -> Scale:
        return PowerScale(self.per) if isinstance(self.scaling, str) else GivenScale(self.per, self.scaling)


HALF = 0.5
"""The mantissa that `frexp` returns for a power of two."""


def _mean_scale(per: Per, scaling: Scaling) -> Scale:
    """The scale of signs: the magnitude itself."""
    if not isinstance(scaling, str):
        return GivenScale(per, scaling)
    return PowerScale(per) if scaling == "po2" else NumberScale(per)


FAMILIES: tuple[type[Format], ...] = (Block, MX, NVFP4, Uniform, PowerOfTwo, Ternary, Binary)
