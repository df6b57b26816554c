"""The output of `energy`: what one example costs on a processor, for each configuration of a spec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qsweep.cli.columns import aligned
from qsweep.formats.words import Word, fixed, floating
from qsweep.parameter import show
from qsweep.spec.plan import Plan
from qsweep.trial.energy import model, qtools
from qsweep.trial.energy.model import Cost, Layer, Machine
from qsweep.trial.energy.net import PIXEL, layers_of, source_of, with_words

PARTS = ("inputs", "parameters", "operations", "outputs")
NANO = 1e-3
"""Picojoules in nanojoules."""
INT8, INT32, FLOAT32 = fixed(-128, 127), fixed(-(1 << 31), (1 << 31) - 1), floating(32)


def energy_lines(plan: Plan, machine: Machine, as_qtools: bool, by_layer: bool) -> Iterator[str]:
    """A table of all configurations and of the references, then where the numbers come from."""
    nets = _nets(plan)
    axes = [
        i for i in range(len(plan.axes)) if all(len({_cell(row[i]) for row in rows}) == 1 for rows in nets.values())
    ]
    head = [plan.axes[i] for i in axes] or ["net"]
    rows = [[*head, *(["layer"] if by_layer else []), "energy_nj", *PARTS, "bit_operations", "parameter_bits"]]
    for (layers, source), points in nets.items():
        place = [_cell(points[0][i]) for i in axes] or [plan.spec.name]
        rows += [[*place, *row] for row in _rows(_costs(layers, source, machine, as_qtools), by_layer)]
    for name, word, accumulator in (("float32", FLOAT32, FLOAT32), ("int8", INT8, INT32)):
        for layers in {with_words(layers, word): None for layers, _ in nets}:
            found = _costs(layers, PIXEL, machine, as_qtools, accumulator)
            rows += [[f"all {name}", *[""] * (len(head) - 1), *row] for row in _rows(found, by_layer)]
    yield aligned(rows)
    yield f"\nnJ per example in inference. {machine.process.name}: {machine.process.source}"


def _nets(plan: Plan) -> dict[tuple[tuple[Layer, ...], Word], list[tuple[Any, ...]]]:
    """The nets of a plan, as the energy model takes them, each with the values of the axes at its points."""
    own = {trial.key: (layers_of(trial.view), source_of(trial.view)) for trial in plan.configurations}
    found: dict[tuple[tuple[Layer, ...], Word], list[tuple[Any, ...]]] = {}
    for row in plan.rows:
        if row.trial.key in own:
            found.setdefault(own[row.trial.key], []).append(row.axes)
    return found


def _costs(
    layers: Sequence[Layer], source: Word, machine: Machine, as_qtools: bool, accumulator: Word | None = None
) -> list[Cost]:
    if not as_qtools:
        return model.costs(layers, source, machine, accumulator)
    return qtools.fused(qtools.costs(layers, source, machine, accumulator), layers)


def _rows(found: Sequence[Cost], by_layer: bool) -> Iterator[list[str]]:
    total = model.summed(found)
    for cost in [*found, total] if by_layer else [total]:
        energies = [cost.energy, *(getattr(cost, part) for part in PARTS)]
        sizes = [f"{cost.bit_operations:,}", f"{cost.parameter_bits:,}"]
        yield [*([cost.name] if by_layer else []), *(f"{value * NANO:.4g}" for value in energies), *sizes]


def _cell(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else show(value)
