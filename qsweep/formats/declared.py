"""The parameters of formats and the names of rounding modes: declared once, for all families."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from qsweep.parameter import Parameter

DETERMINISTIC = ("nearest", "away", "zero", "up", "down")
MOST_RANDOM_BITS = 23
ROUNDINGS = (*DETERMINISTIC, "stochastic", *(f"stochastic{n}" for n in range(1, MOST_RANDOM_BITS + 1)))
"""How a value between two neighbours is rounded; representable values never change, whatever the mode."""
ROUNDING_RULES = {
    "nearest": "the nearer one, ties to the even code",
    "away": "the nearer one, ties away from zero",
    "zero": "the one toward zero (IEEE 754-2019, 4.3)",
    "up": "the one toward +∞",
    "down": "the one toward -∞",
    "stochastic": (
        "the upper one with a probability equal to the distance from the lower one, in steps: unbiased within the range"
        " of a format, but not outside it, where values saturate"
    ),
    "stochasticN": (
        "as in hardware with N random bits: the one larger in magnitude, with the distance from the other one,"
        " truncated to N bits, as its probability; this biases values toward zero by up to 2^-N of a step"
    ),
}
"""The rounding rule of each mode: of the two neighbours of a value, it takes …"""
ROUNDING = Parameter(
    "rounding",
    Literal[ROUNDINGS],
    "nearest, away, zero, up, down, stochastic or stochasticN (N random bits, from 1 to 23)",
    default="nearest",
)


def random_bits(rounding: str) -> int | None:
    """The number of random bits per value: 0 for a deterministic mode, None for all bits of the noise."""
    if rounding == "stochastic":
        return None
    return int(rounding.removeprefix("stochastic")) if rounding.startswith("stochastic") else 0


def bitwidth(least: int, most: int) -> Parameter:
    """The bits per value of a family, sign included."""
    expected = f"an integer from {least} to {most} (bits per value)"
    return Parameter("bitwidth", Annotated[int, Field(ge=least, le=most)], expected, stacks=True, unit="bits")


def _switch(name: str, expected: str, default: bool, **more: Any) -> Parameter:
    return Parameter(name, bool, f"true or false ({expected})", default=default, **more)


BITWIDTH = bitwidth(1, 24)
"""The trial parameter; each family has its own, narrower range."""
SCALE = Parameter(
    "scale",
    Annotated[float, Field(ge=2.0**-60, le=2.0**60)],
    "a number above 0, from 2^-60 to 2^60 (levels span ±1/scale)",
    default=1.0,
    stacks=True,
)
ZERO = _switch("zero", "whether 0 is a level", True, stacks=True, label="zero level")
FRACTION = Parameter(
    "fraction",
    Annotated[int, Field(ge=-96, le=120)],
    "an integer from -96 to 120 (fractional bits)",
    stacks=True,
    label="fraction bits",
)
SYMMETRIC = _switch("symmetric", "whether the lowest level is minus the highest", False)
OVERFLOW = Parameter(
    "overflow", Literal["saturate", "wrap", "unbounded"], "saturate, wrap or unbounded", default="saturate"
)
EXPONENT = Parameter(
    "exponent",
    Annotated[int, Field(ge=2, le=8)],
    "an integer from 2 to 8 (exponent bits)",
    stacks=True,
    label="exponent bits",
)
MANTISSA = Parameter(
    "mantissa",
    Annotated[int, Field(ge=1, le=23)],
    "an integer from 1 to 23 (mantissa bits)",
    stacks=True,
    label="mantissa bits",
)
FLAVOUR = Parameter(
    "flavour",
    Literal["standard", "ieee", "nan", "finite"],
    "standard (OCP's for e4m3, e5m2, e3m2, e2m3 and e2m1, else ieee), ieee (Inf and NaN), nan (no Inf) or finite",
    default="standard",
)
SATURATE = _switch(
    "saturate", "whether values that are too large become the largest value instead of Inf or NaN", False
)
PER = Parameter(
    "per",
    Annotated[int, Field(ge=1, le=2**20)] | Literal["tensor", "channel"],
    "tensor, channel, or the number of values of a row that share one scale",
    default="tensor",
    label="values per scale",
)
AXIS = Parameter(
    "axis",
    Annotated[int, Field(ge=-8, le=7)] | Literal["auto"],
    "auto (channels: the first; groups: the inputs of weights, the features or channels of activations, otherwise the"
    " last) or the number of an axis (biases use the only one they have)",
    default="auto",
)
SCALING = Parameter(
    "scaling",
    Annotated[float, Field(ge=2.0**-60, le=2.0**60)] | Literal["computed", "po2"],
    "computed, po2 (computed, then changed to a power of two) or the largest magnitude, a number from 2^-60 to 2^60",
    default="computed",
)
THRESHOLD = Parameter(
    "threshold",
    Annotated[float, Field(ge=0, le=2.0**60)] | Literal["computed"],
    "computed (0.7 · mean |x|) or a number, 0 or above",
    default="computed",
)
ELEMENT = Parameter(
    "element",
    Literal["e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "int8"],
    "e4m3, e5m2, e3m2, e2m3, e2m1 or int8",
    default="e4m3",
)
TENSOR_SCALE = _switch("tensor_scale", "whether a float32 scale of the whole tensor comes first", True)
ARITHMETIC = Parameter(
    "arithmetic",
    Literal["exact", "nvidia"],
    "exact (each scale and element rounded once) or nvidia (in float32, as in NVIDIA's published reference)",
    default="exact",
    as_before="exact",
)
COMPAT = Parameter(
    "compat", Literal["none", "qtorch"], "none or qtorch (QPyTorch's own rules, bit for bit)", default="none"
)
