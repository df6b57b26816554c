"""The catalog of models: names, parameters and layer shapes. Data only, no torch; qsweep.models builds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

from qsweep.parameters import Parameter


@dataclass(frozen=True)
class LinearShape:
    """One dense layer: its place in the net, and its weight's shape (outputs, inputs)."""

    place: str
    inputs: int
    outputs: int

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.outputs * (self.inputs + 1)


@dataclass(frozen=True)
class Architecture:
    """A model by name.

    `layers(features, classes, parameters)` gives the dense layers in order. `stacks` says whether all its operations
    give the same bits in a stack as alone on a CPU.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    layers: Callable[[int, int, dict[str, Any]], list[LinearShape]]
    stacks: bool


def _chain(widths: list[int]) -> list[LinearShape]:
    return [LinearShape(f"linear{i}", a, b) for i, (a, b) in enumerate(pairwise(widths), start=1)]


HIDDEN = Parameter(
    "hidden",
    Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=1, max_length=32)],
    "a list of layer widths, such as [512, 512]",
    default=[512, 512],
)
DROPOUT = Parameter(
    "dropout",
    Annotated[float, Field(ge=0, lt=1)],
    "a number from 0 up to, not including, 1 (the share of activations set to 0)",
    default=0.0,
)

ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture(
            "mlp",
            "dense layers with ReLU, each followed by dropout, and a dense output",
            (HIDDEN, DROPOUT),
            lambda features, classes, p: _chain([features, *p["hidden"], classes]),
            stacks=True,
        ),
        Architecture(
            "softmax",
            "one dense layer: multinomial logistic regression",
            (),
            lambda features, classes, p: _chain([features, classes]),
            stacks=True,
        ),
    )
}
