"""The output of `energy`: what one example costs on a processor, for each configuration of a spec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from qsweep.cli.columns import aligned
from qsweep.errors import UserError
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
    """A table of all configurations and of the references, then where the numbers come from.

    Raises:
        UserError: the energy of no configuration is known.
    """
    nets, unknown = _nets(plan)
    if not nets:
        raise UserError("\n".join(unknown))
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
    yield from (f"not known for {count} of the configurations: {reason}" for reason, count in unknown.items())
    yield f"\nnJ per example in inference. {machine.process.name}: {machine.process.source}"


Nets = dict[tuple[tuple[Layer, ...], Word], list[tuple[Any, ...]]]
"""Nets as the energy model takes them, and the words of their inputs, with the values of the axes at their points."""


def _nets(plan: Plan) -> tuple[Nets, Counter[str]]:
    """The nets of a plan; and the reasons why the energy of others is not known, with the number of configurations."""
    own: dict[str, tuple[tuple[Layer, ...], Word]] = {}
    unknown: Counter[str] = Counter()
    for trial in plan.configurations:
        try:
            own[trial.key] = layers_of(trial.view), source_of(trial.view)
        except UserError as error:
            unknown[str(error)] += 1
    found: Nets = {}
    for row in plan.rows:
        if row.trial.key in own:
            found.setdefault(own[row.trial.key], []).append(row.axes)
    return found, unknown


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
