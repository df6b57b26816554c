"""What follows from the codes of a format: how many numbers it has, how large, how small, under which scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qsweep.formats import (
    MX,
    NVFP4,
    Binary,
    Block,
    Fixed,
    Float32,
    Format,
    PowerOfTwo,
    Scaled,
    Ternary,
    Unbounded,
    Uniform,
    name_of,
)
from qsweep.formats.codes import coding
from qsweep.formats.groups import LAST, grouping

SHARED_EXPONENT = 8
FLOAT32 = 32


@dataclass(frozen=True)
class Scale:
    """What a group of elements shares.

    Attributes:
        kind: what it is, in words.
        bits: that it takes; 0 where it is told beforehand.
        per: what shares one: `tensor`, `channel`, or a number of values.
        tensor_bits: of another scale that the whole tensor has beside them.
    """

    kind: str
    bits: int
    per: int | str
    tensor_bits: int = 0


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
            of_tensor = ", times a float32 of the tensor" * fmt.tensor_scale
            return Scale("an e4m3 number" + of_tensor, 8, fmt.per, FLOAT32 * fmt.tensor_scale)
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


def is_coded(fmt: Format) -> bool:
    """Whether a tensor in this format is stored as the codes of its elements and the scales of its groups.

    Not float32, which is stored as it is, and not `uniform` from the least to the greatest value: that one is stored as
    the two ends of each group, with codes between them no longer than the values need.
    """
    is_span = isinstance(fmt, Uniform) and not fmt.symmetric and isinstance(fmt.scaling, str)
    return coding(fmt) is not None and not is_span and not isinstance(fmt, Float32)


def stored_bits(fmt: Format, shape: Sequence[int], contraction: int = LAST) -> int | None:
    """The bits of a tensor in a format: of its values' codes, and of the scales of its groups.

    None of formats that have no code of so many bits.

    Args:
        contraction: the axis along which groups run, where the format leaves it open.

    Raises:
        ValueError: the tensor lacks the axis that the format names.
    """
    code, own, count = coding(fmt), scale(fmt), math.prod(shape)
    if code is None:
        return None
    if own is None or not count:
        return count * code.bits
    assert isinstance(fmt, Scaled)  # noqa: S101
    groups = grouping(name_of(fmt), shape, own.per, fmt.axis, contraction)
    return count * code.bits + groups.count * own.bits + own.tensor_bits
