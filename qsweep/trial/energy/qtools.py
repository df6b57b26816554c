"""QKeras's energy model (qtools), for comparisons with numbers that it gave: its word lengths and its memory.

It differs from qsweep's own model in four ways, of which the first is an error:

- an SRAM's energy per bit is charged once per 64 bits, so that SRAM costs 1/64 of what the source says;
- a sum of n products is ceil(log2 n) bits wider than one, and one more with a bias, whatever the operands' range;
- the SRAM polynomial is used below the smallest memory that it was fitted to;
- of a norm only the parameters cost energy, of an activation only the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qsweep.formats.words import Word
from qsweep.trial.energy.model import Cost, Layer, Machine
from qsweep.trial.energy.process import polynomial

CELL = 64
"""Bits per access."""


@dataclass(frozen=True)
class Fixed:
    """A fixed-point word by its width and the bits before the binary point, the sign not counted.

    Attributes:
        is_float: of this width; then `integer` means nothing.
    """

    bits: int
    integer: int
    is_signed: bool = True
    is_float: bool = False

    @property
    def fraction(self) -> int:
        return self.bits - self.integer - self.is_signed


def costs(layers: Sequence[Layer], source: Word, machine: Machine, accumulator: Word | None = None) -> list[Cost]:
    """The costs of a chain of layers. Inputs and outputs are those of every layer; see `fused`.

    Args:
        accumulator: the word of all sums, as for the reference net; None for the words that follow from the operands.
    """
    found, word = [], source
    for index, layer in enumerate(layers):
        cost, word = _cost(layer, word, machine, accumulator, index == 0, index == len(layers) - 1)
        found.append(cost)
    return found


COUNTED = {
    "products": ("inputs", "parameters", "operations"),
    "activation": ("outputs",),
    "norm": ("parameters",),
    "pool": ("operations",),
}
"""The parts of a layer's energy that qtools adds up, as if the layer were fused with others; in hundredths of a pJ."""


def fused(found: Sequence[Cost], layers: Sequence[Layer]) -> list[Cost]:
    """The costs of layers without those parts that a total of qtools leaves out."""

    def part(cost: Cost, layer: Layer, name: str) -> float:
        return round(getattr(cost, name), 2) if name in COUNTED[layer.kind] else 0.0

    return [
        replace(
            cost,
            inputs=part(cost, layer, "inputs"),
            parameters=part(cost, layer, "parameters"),
            operations=part(cost, layer, "operations"),
            outputs=part(cost, layer, "outputs"),
        )
        for cost, layer in zip(found, layers, strict=True)
    ]


def _cost(
    layer: Layer, word: Word, machine: Machine, accumulator: Word | None, is_first: bool, is_last: bool
) -> tuple[Cost, Word]:
    given, operations = word, 0.0
    if layer.kind == "products" and layer.weight is not None:
        term = _product(layer.weight, word)
        own = _fixed(accumulator) if accumulator else _total(term, layer.terms, layer.bias)
        word = Word("float", own.bits) if own.is_float else _word(own)
        operations = layer.operations * (_multiply(machine, layer.weight, given) + machine.process.add(word))
    word = layer.rounded or word
    parameters = [count * of.bits for count, of in ((layer.weights, layer.weight), (layer.biases, layer.bias)) if of]
    cost = Cost(
        layer.name,
        inputs=_access(layer.inputs * given.bits, machine, _memory(machine, is_first)),
        parameters=sum(_access(bits, machine, machine.weights_on) for bits in parameters),
        operations=operations,
        outputs=_access(layer.outputs * word.bits, machine, _memory(machine, is_last)),
        bit_operations=layer.operations * layer.weight.bits * given.bits if layer.weight else 0,
        parameter_bits=sum(parameters),
        activation_bits=layer.outputs * word.bits,
    )
    return cost, word


def _memory(machine: Machine, is_outside: bool) -> str:
    if is_outside:
        return "dram" if machine.is_loaded else "sram"
    return machine.activations_on


def _access(bits: int, machine: Machine, memory: str) -> float:
    """Energy of one tensor's reads or writes."""
    sram = math.ceil(bits / CELL) * max(polynomial(machine.process.sram.per_bit, _log_size(bits, machine)), 0.0)
    if memory == "dram":
        return bits * machine.process.dram.per_bit + (sram if machine.is_loaded else 0.0)
    return sram if memory == "sram" else 0.0


def _log_size(bits: int, machine: Machine) -> float:
    return math.log2(max(bits, machine.least_sram, 1))


def _multiply(machine: Machine, weight: Word, given: Word) -> float:
    """As qsweep's own, but for powers of two: a shifter's width follows from the number of shifts."""
    kinds = {weight.kind, given.kind}
    if kinds == {"power", "fixed"}:
        shift, shifted = (weight, given) if weight.kind == "power" else (given, weight)
        width = math.sqrt(2**shift.bits * shifted.bits)
        return polynomial(machine.process.integer.add, width * math.log10(width))
    return machine.process.multiply(weight, given)


def _fixed(word: Word) -> Fixed:
    if word.kind == "float":
        return Fixed(word.bits, 0, is_float=True)
    if word.kind == "power":  # its widest and its narrowest power
        return Fixed(word.is_signed + word.highest - word.lowest, word.highest, word.is_signed)
    if word.kind in ("sign", "ternary", "bit"):
        return Fixed(word.bits, word.bits, word.is_signed)
    return Fixed(word.bits, word.bits - word.fraction - word.is_signed, word.is_signed)


def _word(own: Fixed) -> Word:
    lowest, highest = (-(1 << (own.bits - 1)), (1 << (own.bits - 1)) - 1) if own.is_signed else (0, (1 << own.bits) - 1)
    return Word("fixed", own.bits, lowest, highest, own.fraction, own.is_signed)


def _product(weight: Word, given: Word) -> Fixed:
    a, b = _fixed(weight), _fixed(given)
    if a.is_float or b.is_float:
        return Fixed(max(one.bits for one in (a, b) if one.is_float), 0, is_float=True)
    if {weight.kind, given.kind} <= {"sign", "ternary", "bit"}:
        return Fixed(max(a.bits, b.bits), max(a.integer, b.integer), a.is_signed or b.is_signed)
    for coarse, other in ((weight, b), (given, a)):
        if coarse.kind in ("sign", "ternary", "bit"):
            is_signed = coarse.is_signed or other.is_signed
            return Fixed(other.bits + (is_signed and not other.is_signed), other.integer, is_signed)
    is_signed, integer, fraction = a.is_signed or b.is_signed, a.integer + b.integer, a.fraction + b.fraction
    return Fixed(integer + fraction + is_signed, integer, is_signed)


def _total(term: Fixed, count: int, bias: Word | None) -> Fixed:
    own = None if bias is None else _fixed(bias)
    if term.is_float or (own is not None and own.is_float):
        return Fixed(max(one.bits for one in (term, own) if one is not None and one.is_float), 0, is_float=True)
    wider = math.ceil(math.log2(count))
    total = Fixed(term.bits + wider, term.integer + wider, term.is_signed)
    if own is None:
        return total
    integer, is_signed = max(total.integer, own.integer) + 1, total.is_signed or own.is_signed
    return Fixed(integer + max(total.fraction, own.fraction) + is_signed, integer, is_signed)
