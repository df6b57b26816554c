"""The kinds of scales that the elements of a group share, and their sizes in bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

Per = int | str
FLOAT32 = 32
"""Bits of a float32 number."""


@dataclass(frozen=True)
class GivenScale:
    """A scale set by the format, so that nothing of it is stored.

    Attributes:
        per: which values share one scale: `tensor`, `channel`, or a number of values.
        magnitude: the magnitude set by the format.
        element: the element with this magnitude.
    """

    kind: ClassVar[str] = "given beforehand"
    bits: ClassVar[int] = 0
    tensor_bits: ClassVar[int] = 0

    per: Per
    magnitude: float
    element: float = 1.0


@dataclass(frozen=True)
class GivenEnds:
    """Ends ±m set by the format; the codes are counted from the lower end to the upper one."""

    kind: ClassVar[str] = "given beforehand"
    bits: ClassVar[int] = 0
    tensor_bits: ClassVar[int] = 0

    per: Per
    magnitude: float


@dataclass(frozen=True)
class Ends:
    """The smallest and the largest value of a group; the codes are counted from one to the other."""

    kind: ClassVar[str] = "lo and hi, two float32 numbers"
    bits: ClassVar[int] = 2 * FLOAT32
    tensor_bits: ClassVar[int] = 0

    per: Per


@dataclass(frozen=True)
class NumberScale:
    """The magnitude of one element, `element`, as a float32 number."""

    kind: ClassVar[str] = "a float32 number"
    bits: ClassVar[int] = FLOAT32
    tensor_bits: ClassVar[int] = 0

    per: Per
    element: float = 1.0


@dataclass(frozen=True)
class PowerScale:
    """A power of two, stored as its exponent, as in E8M0.

    Attributes:
        shift: the scale is 2^(stored exponent + shift).
        element: the largest value of a group divided by it is rounded to the power of two that is stored.
        is_above: whether it is rounded up, not down.
    """

    bits: ClassVar[int] = 8
    tensor_bits: ClassVar[int] = 0

    per: Per
    shift: int = 0
    element: float = 1.0
    is_above: bool = False
    kind: str = "a power of two"


@dataclass(frozen=True)
class E4M3Scale:
    """An e4m3 number; with `of_tensor`, times a float32 number per tensor."""

    bits: ClassVar[int] = 8

    per: Per
    of_tensor: bool

    @property
    def kind(self) -> str:
        """A description."""
        return "an e4m3 number" + ", times a float32 of the tensor" * self.of_tensor

    @property
    def tensor_bits(self) -> int:
        """The bits of the scale of the whole tensor."""
        return FLOAT32 * self.of_tensor


Scale = GivenScale | GivenEnds | Ends | NumberScale | PowerScale | E4M3Scale
"""Each has `kind`, a description; its size in `bits`; `per`, which values share one: `tensor`, `channel` or a number of
values; and `tensor_bits`, the size of an additional scale of the whole tensor."""
