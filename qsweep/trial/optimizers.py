"""The optimizers: their parameters and their state. Their formulas are in qsweep.kernels.optimizers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from qsweep.parameter import BELOW_ONE, NOT_NEGATIVE, POSITIVE, Parameter

LR = Parameter("lr", POSITIVE, "a number above 0", default=0.01, stacks=True, label="learning rate")
MOMENTUM = Parameter("momentum", BELOW_ONE, "a number from 0 up to, not including, 1", default=0.0, stacks=True)
WEIGHT_DECAY = Parameter(
    "weight_decay", NOT_NEGATIVE, "a number, 0 or above", default=0.0, stacks=True, label="weight decay"
)
L1 = Parameter(
    "l1",
    NOT_NEGATIVE,
    "a number, 0 or above (l1 · Σ|w| over all parameters is added to the loss)",
    default=0.0,
    stacks=True,
    as_before=0.0,
    label="L1 penalty",
)
ALPHA = Parameter("alpha", BELOW_ONE, "a number from 0 up to, not including, 1", default=0.99, stacks=True)
EPS = Parameter("eps", POSITIVE, "a number above 0", default=1e-8, stacks=True)
BETAS = Parameter(
    "betas",
    Annotated[list[BELOW_ONE], Field(min_length=2, max_length=2)],
    "a list of two numbers from 0 up to, not including, 1",
    default=[0.9, 0.999],
    stacks=True,
)


@dataclass(frozen=True)
class Optimizer:
    """An optimizer by name.

    Attributes:
        parameters: all that it takes. The step of every optimizer uses `lr`, `weight_decay` and `l1`: the formula
            takes a gradient that includes decay and penalty, and returns a direction for the learning rate to multiply.
        memory: its state from step to step, tensors like the weights, in the order of its formula.
        numerics: version of its arithmetic; raise it on purpose when a change alters results (see qsweep.trial.key).
    """

    name: str
    parameters: tuple[Parameter, ...]
    memory: tuple[str, ...] = ()
    numerics: int = 1

    def __post_init__(self) -> None:
        if lacking := {LR, WEIGHT_DECAY, L1}.difference(self.parameters):
            names = ", ".join(sorted(p.name for p in lacking))
            raise TypeError(f"optimizer '{self.name}': its parameters lack {names}, which every step reads")


OPTIMIZERS = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("sgd", (LR, MOMENTUM, WEIGHT_DECAY, L1), memory=("momentum",)),
        Optimizer("rmsprop", (LR, ALPHA, EPS, WEIGHT_DECAY, L1), memory=("square",)),
        Optimizer("adam", (LR, BETAS, EPS, WEIGHT_DECAY, L1), memory=("mean", "square")),
    )
}
