"""The roles that tensors play in training: what can be quantized."""

from __future__ import annotations

from typing import Final, Literal

from qsweep.formats import Float32
from qsweep.parameter import Parameter

FLOAT32 = Float32.family
ROLES = ("weight", "bias", "norm", "activation", "error", "gradient", "update", "momentum", "master")
"""What can be quantized. Biases are like the weights unless named; other roles that are not named stay in float32,
except `master`, the master weights that the optimizer updates: unless named there are none. Errors are grad_outputs."""
PLURALS = {
    **{role: f"{role}s" for role in ROLES},
    "bias": "biases",
    "norm": "norms' scales and shifts",
    "momentum": "optimizer's memories",
    "master": "master weights",
}
"""What each role rounds, for figures and explanations."""
STORED = ("weight", "bias", "norm")
"""Roles of parameters; each trained parameter has one of them, or none and stays in float32."""
KEPT = (*STORED, "master")
"""Roles whose values are stored from step to step, unless rounded only as operands; all others last for one step."""
FLOWS = ("activation", "error")
"""Roles of what flows through the net, forward and backward."""
OPERANDS: Final = "operands"
AT = Parameter(
    "at",
    Literal["outputs", "operands"],
    "outputs (of layers) or operands (of the products of linear and convolution layers)",
    default="outputs",
    as_before="outputs",
)
"""Where weights, activations and errors are rounded; `outputs` of weights are the stored values."""
AT_ROLES = ("weight", *FLOWS)
