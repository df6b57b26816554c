"""The energy model: QKeras's published values, a net worked out by hand, and what holds for all nets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsweep.errors import UserError
from qsweep.formats.names import parse
from qsweep.formats.words import Word, fixed, floating
from qsweep.trial.energy import model, qtools
from qsweep.trial.energy.model import Layer, Machine
from qsweep.trial.energy.process import read_process

HOROWITZ = read_process("horowitz")
INT8, INT32 = fixed(-128, 127), fixed(-(2**31), 2**31 - 1)
QTOOLS = Machine(HOROWITZ, least_sram=8 * 16 * 2**20)


def word(name: str) -> Word:
    found = parse(name).word
    assert found is not None
    return found


def dense(name: str, inputs: int, outputs: int, weight: Word, bias: Word) -> Layer:
    return Layer(name, "products", inputs, outputs, inputs * outputs, outputs, inputs * outputs, inputs, weight, bias)


def activation(name: str, count: int, rounded: Word | None) -> Layer:
    return Layer(name, "activation", count, count, rounded=rounded)


def three_layers(kernels: list[Word], biases: list[Word], rounded: Word | None) -> list[Layer]:
    """784 → 300 → 100 → 10, the net of QKeras's own test."""
    return [
        dense("d0", 784, 300, kernels[0], biases[0]),
        activation("relu0", 300, rounded),
        dense("d1", 300, 100, kernels[1], biases[1]),
        activation("relu1", 100, rounded),
        dense("d2", 100, 10, kernels[2], biases[2]),
        activation("softmax", 10, INT32),
    ]


REFERENCE = {  # inputs, outputs, parameters, operations in pJ, as test_qenergy of QKeras has them
    "d0": (372.77, 570.57, 111975.96, 70560.0),
    "d1": (570.57, 190.19, 14313.66, 26500.0),
    "d2": (190.19, 19.02, 483.08, 883.33),
}
TRIAL = {
    "d0": (372.77, 342.34, 13997.95, 15729.0),
    "d1": (72.27, 110.31, 7158.73, 3250.0),
    "d2": (26.63, 11.41, 243.44, 102.08),
}


def numbers(cost: model.Cost) -> tuple[float, float, float, float]:
    return cost.inputs, cost.outputs, cost.parameters, cost.operations


def test_qtools_reproduces_the_reference_of_qkeras() -> None:
    layers = three_layers([INT8] * 3, [INT8] * 3, None)
    found = qtools.costs(layers, INT8, QTOOLS, accumulator=INT32)
    for cost in found:
        if cost.name in REFERENCE:
            assert numbers(cost) == pytest.approx(REFERENCE[cost.name], abs=0.006)
    assert int(model.summed(qtools.fused(found, layers)).energy) == 226629


def test_qtools_reproduces_the_quantized_net_of_qkeras() -> None:
    sign, four = word("qkeras_binary"), word("quantized_bits(4,0,1)")
    layers = three_layers([sign, four, four], [sign, four, four], word("quantized_relu(4,0)"))
    found = qtools.costs(layers, INT8, QTOOLS)
    for cost in found:
        if cost.name in TRIAL:
            assert numbers(cost) == pytest.approx(TRIAL[cost.name], abs=0.006)
    assert int(model.summed(qtools.fused(found, layers)).energy) == 41070


def test_a_net_worked_out_by_hand() -> None:
    """784 int8 inputs → 10 outputs of 4-bit weights, no bias; SRAM of 8 KB costs 10 pJ per 64 bits."""
    layer = Layer("d0", "products", 784, 10, 7840, 0, 7840, 784, fixed(-7, 7), None)
    (cost,) = model.costs([layer], INT8, Machine(HOROWITZ))
    per_bit = 10 / 64
    assert cost.inputs == pytest.approx(784 * 8 * per_bit, rel=0.01)
    assert cost.parameters == pytest.approx(7840 * 4 * per_bit, rel=0.01)
    # The largest sum is 784 · 7 · 128 = 702,464: 20 bits and a sign.
    multiply, add = 0.002994791667 * 32 + 0.001041666667 * 32**0.5, 0.003125 * 21
    assert cost.operations == pytest.approx(7840 * (multiply + add))
    assert cost.outputs == pytest.approx(10 * 21 * per_bit, rel=0.01)
    assert cost.bit_operations == 7840 * 4 * 8
    assert cost.parameter_bits == 7840 * 4
    assert cost.activation_bits == 210


def test_the_source_values_of_the_process_are_met() -> None:
    """Horowitz (2014): sums and products of 8 and 32 bits, SRAM of 8 KB, 32 KB and 1 MB, DRAM, floats; in pJ."""
    for bits, add, multiply in ((8, 0.03, 0.2), (32, 0.1, 3.1)):
        own = fixed(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        assert HOROWITZ.add(own) == pytest.approx(add, abs=0.006)
        assert HOROWITZ.multiply(own, own) == pytest.approx(multiply, rel=0.001)
    for size, energy in ((2**16, 10), (2**18, 20), (2**23, 100)):
        assert HOROWITZ.access(64, "sram", size) == pytest.approx(energy, rel=0.01)
    assert HOROWITZ.access(64, "dram") == pytest.approx(1300)
    assert (HOROWITZ.add(floating(32)), HOROWITZ.multiply(floating(32), floating(32))) == (0.9, 3.7)
    assert (HOROWITZ.add(floating(16)), HOROWITZ.multiply(floating(16), floating(16))) == (0.4, 1.1)


@given(st.integers(1, 15), st.integers(1, 15), st.integers(1, 500), st.integers(1, 500))
def test_energy_and_sizes_grow_with_bits(weight: int, act: int, inputs: int, outputs: int) -> None:
    def whole(weight: int, act: int) -> model.Cost:
        own, flow = fixed(-(2**weight), 2**weight - 1), fixed(0, 2**act - 1)
        layers = [dense("a", inputs, outputs, own, INT32), activation("r", outputs, flow)]
        layers += [dense("b", outputs, 10, own, INT32)]
        return model.summed(model.costs(layers, INT8, Machine(HOROWITZ)))

    less, more, busier = whole(weight, act), whole(weight + 1, act), whole(weight, act + 1)
    for other in (more, busier):
        assert other.energy > less.energy
        assert other.bit_operations > less.bit_operations
    assert more.parameter_bits > less.parameter_bits
    assert busier.activation_bits > less.activation_bits


def test_a_float32_net_costs_what_the_float32_reference_does() -> None:
    layers = three_layers([floating(32)] * 3, [floating(32)] * 3, floating(32))
    assert model.costs(layers, INT8, QTOOLS) == model.costs(layers, INT8, QTOOLS, accumulator=floating(32))


def test_fused_layers_exchange_no_tensors() -> None:
    norm = Layer("norm", "norm", 10, 10, 20, weight=floating(32))
    layers = [dense("a", 8, 10, INT8, INT8), norm, activation("r", 10, INT8), dense("b", 10, 4, INT8, INT8)]
    first, second, third, last = model.costs(layers, INT8, Machine(HOROWITZ))
    assert (first.outputs, second.inputs, second.outputs, third.inputs) == (0, 0, 0, 0)
    assert third.outputs == last.inputs > 0


def test_registers_cost_nothing_and_dram_more_than_sram() -> None:
    layers = three_layers([INT8] * 3, [INT8] * 3, INT8)
    by_memory = [
        model.summed(model.costs(layers, INT8, Machine(HOROWITZ, weights_on=memory, activations_on=memory)))
        for memory in ("registers", "sram", "dram")
    ]
    assert by_memory[0].inputs == by_memory[0].parameters == by_memory[0].outputs == 0
    assert by_memory[0].energy < by_memory[1].energy < by_memory[2].energy
    loaded = model.costs(layers, INT8, Machine(HOROWITZ, is_loaded=True))
    plain = model.costs(layers, INT8, Machine(HOROWITZ))
    assert loaded[0].inputs > plain[0].inputs
    assert loaded[2] == plain[2]
    assert loaded[-1].outputs > plain[-1].outputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("unit: nJ", r"mine.yaml: unit: input should be 'pJ', found 'nJ'"),
        ("dram: {per_bit: -1}", r"mine.yaml: dram.per_bit: input should be greater than or equal to 0, found -1"),
        ("sram: {per_bit: [], smallest_bits: 1}", r"mine.yaml: sram.per_bit: .*found \[\]"),
        ("voltage: 0.9", r"mine.yaml: voltage: unexpected keyword argument, found 0.9"),
        ("float: {16: {add: 1}}", r"mine.yaml: float.16.multiply: field required"),
        ("gates: [", r"mine.yaml: invalid YAML"),
    ],
)
def test_a_wrong_process_file_is_refused(tmp_path: Path, change: str, message: str) -> None:
    source = Path(model.__file__).with_name("horowitz.yaml").read_text()
    name = change.split(":")[0]
    lines, kept = [], True
    for line in source.splitlines():
        if line and not line[0].isspace():
            kept = not line.startswith(f"{name}:")
        if kept:
            lines.append(line)
    (tmp_path / "mine.yaml").write_text("\n".join([*lines, change]))
    with pytest.raises(UserError, match=message):
        read_process("mine.yaml", tmp_path)


def test_an_unknown_process_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"process: not found: horowits \(expected horowitz, or a YAML file\)"):
        read_process("horowits")
