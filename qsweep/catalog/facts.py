"""What follows from the codes of a format: how many numbers it has, how large, how small, under which scale."""

from __future__ import annotations

from dataclasses import dataclass

from qsweep.catalog.codes import coding
from qsweep.formats import (
    MX,
    NVFP4,
    Binary,
    Block,
    Fixed,
    Format,
    PowerOfTwo,
    Ternary,
    Unbounded,
    Uniform,
    name_of,
)

SHARED_EXPONENT = 8
FLOAT32 = 32


@dataclass(frozen=True)
class Scale:
    """What a group of elements shares.

    Attributes:
        kind: what it is, in words.
        bits: that it takes; 0 where it is told beforehand.
        per: what shares one: `tensor`, `channel`, or a number of values.
    """

    kind: str
    bits: int
    per: int | str


@dataclass(frozen=True)
class Facts:
    """The facts of a format. Numbers are in units of its scale, where it has one; None is what it does not have.

    Attributes:
        bits: of one element.
        fields: what these bits are, in words.
        levels: different numbers; 0 counts once.
        normal: the smallest normal number.
        subnormal: the smallest number above 0, where that is smaller still.
        step: between neighbours, where all of them are equally far.
        nans: codes that are NaN.
    """

    name: str
    bits: int | None = None
    fields: str = ""
    levels: int | None = None
    largest: float | None = None
    lowest: float | None = None
    normal: float | None = None
    subnormal: float | None = None
    step: float | None = None
    has_inf: bool = False
    nans: int = 0
    scale: Scale | None = None

    @property
    def bits_a_value(self) -> float | None:
        """With the value's part of the scale, where a known number of values share it."""
        if self.bits is None or self.scale is None or not isinstance(self.scale.per, int):
            return self.bits
        return self.bits + self.scale.bits / self.scale.per

    @property
    def is_symmetric(self) -> bool:
        """Whether the lowest is minus the largest."""
        return self.largest is None or self.lowest is None or self.lowest == -self.largest

    @property
    def specials(self) -> str:
        """Inf and NaN, where there are codes for them."""
        return " ".join(["Inf"] * self.has_inf + ["NaN"] * (self.nans > 0))


def facts(fmt: Format) -> Facts:
    """The facts of a format, without a look at each of its numbers."""
    name, code = name_of(fmt), coding(fmt)
    if code is None:
        return Facts(name, step=fmt.law.step if isinstance(fmt, Fixed | Unbounded) else None)
    return Facts(
        name,
        bits=code.bits,
        fields=code.fields,
        levels=code.levels,
        largest=code.largest,
        lowest=code.lowest,
        normal=code.normal,
        subnormal=code.subnormal,
        step=code.step,
        has_inf=code.has_inf,
        nans=code.nans,
        scale=scale(fmt),
    )


def scale(fmt: Format) -> Scale | None:
    """What the elements of a format are multiplied by."""
    match fmt:
        case Block():
            return Scale("a power of two", SHARED_EXPONENT, fmt.per)
        case MX():
            return Scale("a power of two, E8M0", SHARED_EXPONENT, fmt.per)
        case NVFP4():
            return Scale("an e4m3 number" + ", times a float32 of the tensor" * fmt.tensor_scale, 8, fmt.per)
        case Uniform() | Binary() | Ternary() | PowerOfTwo():
            return _of_scaling(fmt)
    return None


def _of_scaling(fmt: Uniform | Binary | Ternary | PowerOfTwo) -> Scale:
    if not isinstance(fmt.scaling, str):
        return Scale("given beforehand", 0, fmt.per)
    if fmt.scaling == "po2" or isinstance(fmt, PowerOfTwo):
        return Scale("a power of two", SHARED_EXPONENT, fmt.per)
    if isinstance(fmt, Uniform) and not fmt.symmetric:
        return Scale("lo and hi, two float32 numbers", 2 * FLOAT32, fmt.per)
    return Scale("a float32 number", FLOAT32, fmt.per)
