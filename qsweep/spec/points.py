"""The points of a grid: combinations of variants and axis values, and their rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qsweep.spec.blocks import Block, overlay
from qsweep.spec.file import Spec
from qsweep.trial.key import Trial
from qsweep.trial.parameters import CHOICES
from qsweep.trial.roles import ROLES
from qsweep.trial.spelling import describe_choice, describe_role

VARIANT = "variant"
ROLE_PATHS = tuple(f"quantize.{role}" for role in ROLES)


@dataclass(frozen=True, slots=True)
class Row:
    """One grid point: its trial, and its values on the plan's axes (None if its trial does not read the parameter)."""

    trial: Trial
    axes: tuple[Any, ...]


@dataclass(frozen=True)
class Point:
    """One combination of variant and axis values, and its parameters."""

    variant: str | None
    values: Mapping[str, Any]
    parameters: Mapping[str, Any]

    def axes(self, names: tuple[str, ...], trial: Trial) -> tuple[Any, ...]:
        """Its value on each axis of the plan; None for a parameter that its trial does not read."""
        return tuple([self._axis(name, trial.columns) for name in names])

    def _axis(self, name: str, columns: Mapping[str, Any]) -> Any:
        if name == VARIANT:
            return self.variant
        if name in self.values and name in columns:
            return _shown(name, self.values[name])
        return columns.get(name)


def _shown(name: str, value: Any) -> Any:
    """An axis value as a table shows it: a model, init or role in short."""
    if name in CHOICES:
        return describe_choice(value)
    return describe_role(value) if name in ROLE_PATHS else value


def axis_names(spec: Spec) -> tuple[str, ...]:
    names = [name for block in spec.blocks for name in block.axes]
    variants = [VARIANT] if any(block.variants for block in spec.blocks) else []
    return tuple(dict.fromkeys([*variants, *names]))


def points(block: Block) -> Iterator[Point]:
    """Every combination of variant and axis values, the last axis fastest."""
    names = block.axes
    variants: list[str | None] = [*block.variants] or [None]
    for variant in variants:
        base = block.trial if variant is None else overlay(block.trial, block.variants[variant])
        for steps in itertools.product(*(group.points for group in block.groups)):
            values = dict(zip(names, itertools.chain(*steps), strict=True))
            yield Point(variant, values, overlay(base, values))


def given(block: Block) -> Iterator[str]:
    """Names of all parameters that a block and its variants set, with those inside models, inits and roles."""
    for parameters in (block.trial, *block.variants.values()):
        for name, value in parameters.items():
            if name in CHOICES:
                yield from (f"{name}.{inner}" for inner in value if inner != "name")
            elif name == "quantize":
                yield from (f"{name}.{role}.{p}" for role, own in value.items() if "format" not in own for p in own)
            else:
                yield name
