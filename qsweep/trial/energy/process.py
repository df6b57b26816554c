"""The energy of operations and memory accesses in one manufacturing process, from a data file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from qsweep.errors import UserError
from qsweep.formats.words import Word

PACKAGED = Path(__file__).parent
HOROWITZ = "horowitz"

Energy = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Polynomial = Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=1)]
"""Coefficients, highest power first."""
Memory = Literal["sram", "dram", "registers"]
STRICT = ConfigDict(extra="forbid")


@checked(config=STRICT, frozen=True)
class Integer:
    """Energy of a sum and of a product, by the width of the operands in bits."""

    add: Polynomial
    multiply: Polynomial


@checked(config=STRICT, frozen=True)
class Float:
    """Energy of a sum and of a product of one width."""

    add: Energy
    multiply: Energy


@checked(config=STRICT, frozen=True)
class Gates:
    """Energy of a gate per bit, relative to an integer sum."""

    mux: Energy
    xor: Energy
    # `and` is a word of Python's
    and_: Annotated[Energy, Field(alias="and")]


@checked(config=STRICT, frozen=True)
class Sram:
    """Energy per bit, by log2 of the memory's size in bits; a smaller memory costs what the smallest one does."""

    per_bit: Polynomial
    smallest_bits: Annotated[int, Field(ge=1)]


@checked(config=STRICT, frozen=True)
class Dram:
    """Energy per bit."""

    per_bit: Energy


@checked(config=STRICT, frozen=True)
class Process:
    """A manufacturing process. Energies are in picojoules.

    Attributes:
        source: where the numbers come from.
        floats: by width in bits; a width in between costs what the next larger one does.
    """

    name: str
    source: str
    unit: Literal["pJ"]
    integer: Integer
    floats: Annotated[Mapping[Annotated[int, Field(ge=1, le=64)], Float], Field(min_length=1, alias="float")]
    gates: Gates
    sram: Sram
    dram: Dram

    def add(self, word: Word) -> float:
        """Energy of one addition of two words of this width."""
        return self._float(word.bits).add if word.kind == "float" else polynomial(self.integer.add, word.bits)

    def multiply(self, a: Word, b: Word) -> float:
        """Energy of one product: by a multiplier, or by what replaces one where an operand is coarse.

        Two integers of different widths cost what two of the geometric mean of the widths do.
        """
        kinds = {a.kind, b.kind}
        if "float" in kinds:
            return self._float(max(word.bits for word in (a, b) if word.kind == "float")).multiply
        if kinds == {"sign"}:
            return self.gates.xor * polynomial(self.integer.add, 1)
        other = a if b.kind in COARSE else b
        if "bit" in kinds:
            return self.gates.and_ * polynomial(self.integer.add, other.bits)
        if kinds & {"sign", "ternary"}:  # pass on or negate; a ternary operand also clears
            inputs = 1 if "sign" in kinds else 2
            return inputs * self.gates.mux * polynomial(self.integer.add, other.bits)
        if kinds == {"power"}:  # the exponents are added
            return polynomial(self.integer.add, max(a.bits, b.bits) + 1)
        if "power" in kinds:  # a barrel shifter: a row of multiplexers per bit of the exponent
            shift, shifted = (a, b) if a.kind == "power" else (b, a)
            return shift.bits * self.gates.mux * polynomial(self.integer.add, shifted.bits)
        return polynomial(self.integer.multiply, math.sqrt(a.bits * b.bits))

    def access(self, bits: int, memory: Memory, least_bits: int = 0) -> float:
        """Energy of reading or writing so many bits of one tensor, once.

        Args:
            least_bits: the smallest SRAM that is built; a larger tensor has an SRAM of its own size.
        """
        if memory == "registers":
            return 0.0
        if memory == "dram":
            return bits * self.dram.per_bit
        size = max(bits, least_bits, self.sram.smallest_bits)
        return bits * max(polynomial(self.sram.per_bit, math.log2(size)), 0.0)

    def _float(self, bits: int) -> Float:
        wide = [width for width in self.floats if width >= bits]
        return self.floats[min(wide) if wide else max(self.floats)]


COARSE = ("sign", "ternary", "bit")
"""Kinds of words whose product with another word needs no multiplier."""


def polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """Its value at x, by Horner's rule."""
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


def read_process(name: str, folder: Path = Path()) -> Process:
    """A process by name, or from a YAML file of the same form.

    Args:
        name: `horowitz`, or a path ending in .yaml, relative to `folder`.

    Raises:
        UserError: there is no such process or file, or the file is not of this form.
    """
    path = folder / name if name.endswith((".yaml", ".yml")) else PACKAGED / f"{name}.yaml"
    known = sorted(file.stem for file in PACKAGED.glob("*.yaml"))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise UserError(f"process: not found: {name} (expected {', '.join(known)}, or a YAML file)") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name}: invalid YAML: {' '.join(str(error).split())}") from None
    try:
        return TypeAdapter(Process).validate_python(content)
    except ValidationError as error:
        places = [(".".join(map(str, e["loc"])), _first_lower(e["msg"]), e["input"]) for e in error.errors()]
        raise UserError("\n".join(f"{name}: {p}: {said}, found {value!r}" for p, said, value in places)) from None


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]
