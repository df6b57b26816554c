"""The optimizers and their parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qsweep.parameter import BELOW_ONE, NOT_NEGATIVE, POSITIVE, Parameter

LR = Parameter("lr", POSITIVE, "a number above 0", default=0.01, stacks=True)
MOMENTUM = Parameter("momentum", BELOW_ONE, "a number from 0 up to, not including, 1", default=0.0, stacks=True)
WEIGHT_DECAY = Parameter("weight_decay", NOT_NEGATIVE, "a number, 0 or above", default=0.0, stacks=True)
L1 = Parameter(
    "l1",
    NOT_NEGATIVE,
    "a number, 0 or above (l1 · Σ|w| over all parameters is added to the loss that is descended)",
    default=0.0,
    stacks=True,
    as_before=0.0,
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
OPTIMIZERS: dict[str, tuple[Parameter, ...]] = {
    "sgd": (LR, MOMENTUM, WEIGHT_DECAY, L1),
    "rmsprop": (LR, ALPHA, EPS, WEIGHT_DECAY, L1),
    "adam": (LR, BETAS, EPS, WEIGHT_DECAY, L1),
}
