"""Floating point of any width up to float32's own, in the flavours of IEEE 754 and of the Open Compute Project."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from qsweep.formats.codes import FloatCode, float_code
from qsweep.formats.declared import COMPAT, EXPONENT, FLAVOUR, MANTISSA, SATURATE
from qsweep.formats.elements import Floating
from qsweep.formats.family import Format
from qsweep.parameter import BadValueError, Parameter

OCP = {(4, 3): "nan", (5, 2): "ieee", (3, 2): "finite", (2, 3): "finite", (2, 1): "finite"}
"""Exponent and mantissa bits of the formats that OCP defines, and their flavour."""
WIDEST = 8
"""Exponent bits of float32, in which all values are kept."""


@dataclass(frozen=True)
class Float(Format):
    """Binary floating point: a sign, E exponent bits, M mantissa bits, subnormals, bias 2^(E-1) - 1.

    The flavour defines the highest codes:
      - `ieee`: the highest exponent holds Inf and NaN (IEEE 754-2019; OCP e5m2; bf16, fp16, tf32).
      - `nan`: the highest code of each sign is NaN, all others are numbers, and there is no Inf (OCP e4m3).
      - `finite`: every code is a number (OCP e3m2, e2m3, e2m1).
      - `standard`: OCP's where it defines these E and M, else `ieee`. So `e4m3` ends at 448, and
        `e4m3 flavour=ieee` at 240.

    Values are rounded first and checked for overflow afterwards (IEEE 754, 4.3 and 7.4): rounding to nearest returns
    Inf from half a step above the largest number on, rounding toward zero never. Without Inf, overflow returns NaN.
    `saturate` returns the largest number instead, for ±Inf too; a format without Inf and NaN always saturates. NaN
    stays NaN, even where the format has no code for it. Zeros keep their sign.

    Sources: IEEE 754-2019; OCP 8-bit Floating Point Specification 1.0 (2023); OCP Microscaling Formats 1.0 (2023).

    Raises:
        BadValueError: QPyTorch's rules with a flavour other than `standard`; 8 exponent bits with one other than
            `ieee`.
    """

    family: ClassVar[str] = "float"
    short: ClassVar[str] = "e{exponent}m{mantissa}"
    parameters: ClassVar[tuple[Parameter, ...]] = (EXPONENT, MANTISSA, FLAVOUR, SATURATE, COMPAT)
    summary: ClassVar[str] = "floating point of E exponent and M mantissa bits, with subnormals; bf16, fp16, tf32"
    examples: ClassVar[tuple[str, ...]] = ("e4m3", "e5m2")
    words: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "bf16": {"exponent": 8, "mantissa": 7},
        "fp16": {"exponent": 5, "mantissa": 10},
        "tf32": {"exponent": 8, "mantissa": 10},
    }

    exponent: int
    mantissa: int
    flavour: str = "standard"
    saturate: bool = False
    compat: str = "none"

    def __post_init__(self) -> None:
        if self.compat == "qtorch" and (self.flavour != "standard" or self.saturate):
            raise BadValueError("QPyTorch's floating point has its own rounding rule: leave out flavour and saturate")
        if self.exponent == WIDEST and self.kind != "ieee":
            raise BadValueError(
                f"{self.kind} with {WIDEST} exponent bits exceeds the range of float32: use flavour ieee"
            )

    @property
    def kind(self) -> str:
        """The flavour: ieee, nan or finite; by QPyTorch's rules every exponent below float32's holds numbers."""
        if self.compat == "qtorch":
            return "finite" if self.exponent < WIDEST else "ieee"
        return OCP.get((self.exponent, self.mantissa), "ieee") if self.flavour == "standard" else self.flavour

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def elements(self) -> Floating:
        ieee, nan = self.kind == "ieee", self.kind == "nan"
        top = self.bias if ieee else self.bias + 1
        largest = math.ldexp(2.0 - 2.0**-self.mantissa * (2 if nan else 1), top)
        beyond = largest if self.saturate or not (ieee or nan) else math.inf if ieee else math.nan
        return Floating(self.mantissa, 1 - self.bias, largest, beyond)

    @property
    def rule(self) -> str:
        return "elements" if self.compat == "none" else self.compat

    @property
    def is_emulated(self) -> bool:
        return self.compat != "none"

    @property
    def code(self) -> FloatCode:
        return float_code(self.exponent, self.mantissa, self.kind)


FAMILIES: tuple[type[Format], ...] = (Float,)
