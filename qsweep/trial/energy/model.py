"""The energy of a net's layers per example: reads of inputs and parameters, products and sums, writes of outputs.

Only compulsory accesses count: each tensor is read or written once, as if every layer kept what it needs. Layers that
hardware fuses exchange no tensors: a layer with products writes nothing, and what follows it reads nothing but its
parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

from qsweep.formats.words import Word, product, total
from qsweep.trial.energy.process import Memory, Process


@dataclass(frozen=True)
class Layer:
    """One layer as the energy model sees it. Counts are per example.

    Attributes:
        kind: `products` (linear layers and convolutions), `norm`, `activation` or `pool`.
        inputs, outputs: numbers that flow in and out.
        weights: parameters but biases; of a norm, its scales and shifts.
        biases: how many.
        operations: multiply-adds; of a pool, comparisons.
        terms: products per output.
        weight, bias: the words of the parameters.
        rounded: the word of the outputs where something rounds them; None where they stay as they come.
    """

    name: str
    kind: Literal["products", "norm", "activation", "pool"]
    inputs: int
    outputs: int
    weights: int = 0
    biases: int = 0
    operations: int = 0
    terms: int = 1
    weight: Word | None = None
    bias: Word | None = None
    rounded: Word | None = None


@dataclass(frozen=True)
class Machine:
    """What runs a net.

    Attributes:
        weights_on, activations_on: the memories.
        least_sram: bits of the smallest SRAM that is built; 0 for one of each tensor's own size.
        is_loaded: whether the net's input is read from DRAM, and its output written there.
    """

    process: Process
    weights_on: Memory = "sram"
    activations_on: Memory = "sram"
    least_sram: int = 0
    is_loaded: bool = False


@dataclass(frozen=True)
class Cost:
    """What a layer costs per example.

    Attributes:
        inputs, parameters, operations, outputs: energy in picojoules.
        bit_operations: Σ bits of the weight × bits of the input over all products: BOPs, or EBOPs with one width per
            tensor.
        parameter_bits, activation_bits: sizes; of activations, those that are written.
    """

    name: str
    inputs: float = 0.0
    parameters: float = 0.0
    operations: float = 0.0
    outputs: float = 0.0
    bit_operations: int = 0
    parameter_bits: int = 0
    activation_bits: int = 0

    @property
    def energy(self) -> float:
        """In picojoules."""
        return self.inputs + self.parameters + self.operations + self.outputs


def costs(layers: Sequence[Layer], source: Word, machine: Machine, accumulator: Word | None = None) -> list[Cost]:
    """The costs of a chain of layers, in their order.

    Args:
        source: the word of the net's inputs.
        accumulator: the word of all sums; None for sums that are as wide as they need to be.
    """
    found, word = [], source
    for index, layer in enumerate(layers):
        following = layers[index + 1] if index + 1 < len(layers) else None
        cost, word = _cost(layer, word, machine, accumulator, index == 0, following)
        found.append(cost)
    return found


def summed(found: Sequence[Cost], name: str = "total") -> Cost:
    """The costs of all layers together."""
    numbers = [field.name for field in fields(Cost) if field.name != "name"]
    return Cost(name, **{number: sum(getattr(cost, number) for cost in found) for number in numbers})


def _cost(
    layer: Layer, word: Word, machine: Machine, accumulator: Word | None, is_first: bool, following: Layer | None
) -> tuple[Cost, Word]:
    """The cost of a layer that reads a word, and the word that comes out."""
    process = machine.process
    given, operations, bit_operations = word, 0.0, 0
    if layer.kind == "products" and layer.weight is not None:
        term = product(layer.weight, word)
        word = accumulator or total(term, layer.terms, layer.bias)
        operations = layer.operations * (process.multiply(layer.weight, given) + process.add(word))
        bit_operations = layer.operations * layer.weight.bits * given.bits
    elif layer.kind == "norm" and layer.weight is not None:  # y = x · scale + shift
        word = accumulator or total(product(layer.weight, word), 1, layer.weight)
        operations = layer.outputs * (process.multiply(layer.weight, given) + process.add(word))
    elif layer.kind == "pool":
        operations = layer.operations * process.add(word)
    word = layer.rounded or word
    parameter_bits = _bits(layer.weights, layer.weight), _bits(layer.biases, layer.bias)
    reads = is_first or layer.kind == "products"
    writes = following is None or following.kind == "products"
    activation_bits = layer.outputs * word.bits if writes else 0
    cost = Cost(
        layer.name,
        inputs=_moved(layer.inputs * given.bits, machine, is_outside=is_first) if reads else 0.0,
        parameters=sum(process.access(bits, machine.weights_on, machine.least_sram) for bits in parameter_bits),
        operations=operations,
        outputs=_moved(activation_bits, machine, is_outside=following is None) if writes else 0.0,
        bit_operations=bit_operations,
        parameter_bits=sum(parameter_bits),
        activation_bits=activation_bits,
    )
    return cost, word


def _moved(bits: int, machine: Machine, is_outside: bool) -> float:
    """Energy of reading or writing activations; those that enter or leave the net may come from DRAM or go there."""
    process, least = machine.process, machine.least_sram
    if is_outside and machine.is_loaded:
        return process.access(bits, "dram") + process.access(bits, "sram", least)
    return process.access(bits, machine.activations_on, least)


def _bits(count: int, word: Word | None) -> int:
    return count * word.bits if word is not None else 0
