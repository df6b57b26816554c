"""The roles that tensors play in training: what can be quantized."""

from __future__ import annotations

from typing import Final, Literal

from qsweep.formats import Float32
from qsweep.parameter import Parameter

FLOAT32 = Float32.family
ROLES = ("weight", "bias", "norm", "activation", "error", "gradient", "update", "momentum", "master")
"""What can be quantized. Biases are like the weights unless named; each other role that is not named stays in float32,
but for `master`, the second copy that the optimizer updates: without a name there is none."""
PLURALS = {
    **{role: f"{role}s" for role in ROLES},
    "bias": "biases",
    "norm": "norms' scales and shifts",
    "momentum": "optimizer's memories",
    "master": "master weights",
}
"""What each role rounds, in the words of figures and explanations."""
STORED = ("weight", "bias", "norm")
"""Roles of parameters; each parameter that is trained plays one of them, or none and stays in float32."""
KEPT = (*STORED, "master")
"""Roles whose values stay from step to step, where they are not rounded for a product alone; all others are of one."""
FLOWS = ("activation", "error")
"""Roles of what flows through the net, forward and backward."""
OPERANDS: Final = "operands"
AT = Parameter(
    "at",
    Literal["outputs", "operands"],
    "outputs (of layers) or operands (of the products of dense and convolution layers)",
    default="outputs",
    as_before="outputs",
)
"""Where weights, activations and errors are rounded; the weights' outputs are the stored values."""
AT_ROLES = ("weight", *FLOWS)
