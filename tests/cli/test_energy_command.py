"""The command `energy`: the document's numbers, what trials round, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from qsweep.cli.energy import INT8, INT32
from qsweep.cli.main import cli
from qsweep.formats.words import fixed, floating
from qsweep.spec.file import read
from qsweep.spec.plan import expand
from qsweep.trial.energy.net import layers_of, source_of
from qsweep.trial.settings import Settings

MNIST = "trial: {data: mnist, model: autoqkeras_mnist}"


def energy(folder: Path, text: str, *words: str, code: int = 0) -> str:
    (folder / "net.yaml").write_text(text)
    done = CliRunner().invoke(cli, ["energy", str(folder / "net.yaml"), *words], standalone_mode=False)
    assert (done.return_value, done.exception) == (code, None) or code == 2
    return done.output if code == 0 else str(done.exception)


def rows(output: str) -> dict[str, dict[str, float]]:
    """The numbers of each line, by its first cell."""
    head, *lines = [line.split("  ") for line in output.split("\n\n")[0].splitlines()]
    names = [cell.strip() for cell in head if cell.strip()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    return {own[0]: {n: float(c.replace(",", "")) for n, c in zip(names[-7:], own[-7:], strict=True)} for own in cells}


def test_qtools_gives_the_energies_of_the_autoqkeras_notebook(tmp_path: Path) -> None:
    """3.3 µJ in float32 with an SRAM of at least 16 MB; 204 nJ in int8 with SRAMs of each tensor's own size."""
    large = rows(energy(tmp_path, MNIST, "--qtools", "--min-sram", str(8 * 16 * 2**20)))
    assert large["all float32"]["energy_nj"] == pytest.approx(3300, abs=50)
    own = rows(energy(tmp_path, MNIST, "--qtools"))
    assert own["all int8"]["energy_nj"] == pytest.approx(204, abs=0.5)
    assert own["all float32"]["energy_nj"] == pytest.approx(3090, abs=5)  # the two are not comparable
    assert large["all int8"]["energy_nj"] == pytest.approx(262, abs=0.5)


def test_a_float32_net_costs_what_the_float32_reference_does(tmp_path: Path) -> None:
    found = rows(energy(tmp_path, MNIST))
    assert found["net"] == found["all float32"]
    assert found["net"]["bit_operations"] > 660_800 * 8 * 32


def test_configurations_that_differ_in_what_costs_no_energy_are_one_line(tmp_path: Path) -> None:
    text = """
trial: {data: digits, model: {name: mlp, hidden: [16]}, quantize: {weight: range, activation: fixed8f4}}
grid: {lr: [0.1, 0.2], bitwidth: [8, 4, 2]}
seeds: 3
"""
    found = rows(energy(tmp_path, text))
    assert list(found) == ["8", "4", "2", "all float32", "all int8"]
    by_bits = [found[bits]["energy_nj"] for bits in ("8", "4", "2", "all float32")]
    assert by_bits == sorted(by_bits[:3], reverse=True) + by_bits[3:]
    assert by_bits[3] > by_bits[0]


def test_layers_add_up_to_the_total(tmp_path: Path) -> None:
    lines = energy(tmp_path, MNIST, "--layers").split("\n\n")[0].splitlines()[1:]
    own = [line.split() for line in lines if line.startswith("net ")]
    assert [line[1] for line in own][-1] == "total"
    assert sum(float(line[2]) for line in own[:-1]) == pytest.approx(float(own[-1][2]), rel=1e-3)


def test_words_of_layers_follow_the_roles_the_exceptions_and_what_follows(tmp_path: Path) -> None:
    text = """
trial:
  data: digits
  model: {name: mlp, hidden: [16]}
  quantize: {weight: fixed4f3, bias: fixed8f4, activation: fixed8f2}
  layers: {linear2: {weight: fixed6f3}, relu1: {activation: fixed3f1}}
"""
    (tmp_path / "net.yaml").write_text(text)
    (row,) = expand(read(tmp_path / "net.yaml")).rows
    first, relu, last = layers_of(Settings(row.trial.settings))
    assert (first.weight, first.bias, first.rounded) == (fixed(-8, 7, 3), fixed(-128, 127, 4), None)
    assert relu.rounded == fixed(-4, 3, 1)
    assert (last.weight, last.rounded) == (fixed(-32, 31, 3), fixed(-128, 127, 2))
    assert (first.operations, first.terms, last.operations, last.terms) == (64 * 16, 64, 160, 16)
    assert source_of(Settings(row.trial.settings)) == fixed(0, 255)


def test_activations_rounded_as_operands_leave_the_output_of_the_net_as_it_comes(tmp_path: Path) -> None:
    operands = "{weight: {format: e4m3, at: operands}, activation: {format: e4m3, at: operands}}"
    (tmp_path / "net.yaml").write_text(f"trial: {{data: digits, model: softmax, quantize: {operands}}}")
    (row,) = expand(read(tmp_path / "net.yaml")).rows
    (layer,) = layers_of(row.trial.view)
    assert (layer.weight, layer.rounded, source_of(row.trial.view)) == (floating(8), None, floating(8))


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ("float32_ends", [32, 4, 32]),
        ("{linear2: float32}", [4, 32, 4]),
        ("{linear3: {weight: fixed9f3}}", [4, 4, 9]),
    ],
)
def test_places_left_in_float32_are_floats(tmp_path: Path, layers: str, words: list[int]) -> None:
    text = f"trial: {{data: digits, model: {{name: mlp, hidden: [8, 8]}}, quantize: {{weight: fixed4f3}}, layers: {layers}}}"
    (tmp_path / "net.yaml").write_text(text)
    (row,) = expand(read(tmp_path / "net.yaml")).rows
    found = [layer for layer in layers_of(Settings(row.trial.settings)) if layer.kind == "products"]
    assert [layer.weight.bits for layer in found if layer.weight] == words


def test_a_compressed_model_has_the_words_of_its_compression(tmp_path: Path) -> None:
    text = "trial: {data: digits, model: softmax, stages: [{compress: {weight: uniform4 symmetric=true}}]}"
    (tmp_path / "net.yaml").write_text(text)
    (row,) = expand(read(tmp_path / "net.yaml")).rows
    (layer,) = layers_of(Settings(row.trial.settings))
    assert (layer.weight, layer.bias) == (fixed(-7, 7), floating(32))


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        ("trial: {data: digits, model: softmax, quantize: {weight: fraction8}}", (), "fraction8: its elements have no"),
        (
            "trial: {data: digits, model: 'torchvision:resnet18'}",
            (),
            "torchvision:resnet18: its energy is not known: only that of",
        ),
        (MNIST, ("--process", "tsmc"), "process: not found: tsmc"),
    ],
)
def test_what_has_no_known_energy_is_refused(tmp_path: Path, text: str, words: tuple[str, ...], message: str) -> None:
    assert message in energy(tmp_path, text, *words, code=2)


def test_a_configuration_without_a_known_energy_is_named_beside_the_others(tmp_path: Path) -> None:
    text = """
trial: {data: digits, model: softmax}
variants: {a: {quantize: {weight: e3m2}}, k: {stages: [{compress: {weight: kmeans8}}]}}
"""
    output = energy(tmp_path, text)
    assert "a" in rows("\n".join(line for line in output.splitlines() if not line.startswith("not known")))
    assert "not known for 1 of the configurations: kmeans8: its elements have no fixed width" in output


def test_references_have_8_bit_operands_and_32_bit_sums() -> None:
    assert (INT8.bits, INT32.bits) == (8, 32)
