"""The step that follows the gradients: update, subtract, quantize, for each trial of a stack by itself.

Trial by trial and in pieces that fit in a core's cache, this is several times faster than over the whole stack, and a
trial's bits can't depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from qsweep.training.nets import Values
from qsweep.training.optimizers import UPDATES, State
from qsweep.training.roles import Rule, rules

PIECE = 64 * 1024
"""Values a piece: 256 KB a tensor, so that a piece and its temporaries stay in the second-level cache."""


@dataclass
class Learner:
    """What one trial of a stack has of its own: its settings, its rules, and its optimizer's memory."""

    settings: Mapping[str, Any]
    rule_of: dict[str, Rule] = field(init=False)
    memory: dict[str, list[State]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rule_of = rules(self.settings)


def quantize_all(values: Values, learners: Sequence[Learner], roles: Mapping[str, str], noise: Values) -> None:
    """Quantize the weights as after a step: what happens before the first forward pass."""
    for index, learner in enumerate(learners):
        for name, value in values.items():
            rule = learner.rule_of.get(roles.get(name, ""))
            if rule:
                value[index].copy_(rule(value[index], noise.get(name)))


def update_all(
    values: Values, gradients: Values, learners: Sequence[Learner], roles: Mapping[str, str], noise: Values, step: int
) -> None:
    """One optimizer step (counted from 1) of each trial, in place."""
    for index, learner in enumerate(learners):
        for name, value in values.items():
            rule = learner.rule_of.get(roles.get(name, ""))
            _update(value[index], gradients[name][index], learner, name, rule, noise.get(name), step)


def _update(
    weight: Tensor, gradient: Tensor, learner: Learner, name: str, rule: Rule | None, noise: Tensor | None, step: int
) -> None:
    weights, gradients = _pieces(weight), _pieces(gradient)
    noises = _pieces(noise) if noise is not None else [None] * len(weights)
    states = learner.memory.setdefault(name, [{} for _ in weights])
    optimizer = learner.settings["optimizer"]
    for w, g, u, state in zip(weights, gradients, noises, states, strict=True):
        moved = w - UPDATES[optimizer["name"]](w, g, state, optimizer, step)
        w.copy_(rule(moved, u) if rule else moved)


def _pieces(tensor: Tensor) -> Sequence[Tensor]:
    return tensor.reshape(-1).split(PIECE)
