"""The scales of groups of values, as data-dependent formats define them: float64, one per group.

`groups` has the values of P trials as (P, G, width), the last group of a row padded with its last value. Largest and
smallest values, and sums of integers, are the same in any order, so a scale has the same bits on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qsweep.formats import MX, NVFP4, Block, Float, Grid, PowerOfTwo, Ternary, Uniform
from qsweep.formats.scaled import Binary
from qsweep.kernels import rounding as kernels
from qsweep.kernels.compiled import Integers
from qsweep.rounding.formulas import NEAREST, exponent_of, power, to_floating

E8M0 = 127
"""Largest magnitude of an E8M0 scale's exponent."""
UNBOUNDED = 1 << 20
"""More than any exponent."""
BY_EXPONENT = {"exponent": UNBOUNDED, "e8m0": E8M0}
"""The largest magnitude of a shared exponent, by rule."""
MEAN_BITS = 30
"""Means are computed from magnitudes in units of 2^(E - 30), E the exponent of the largest."""


def largest_of(groups: Tensor) -> Tensor:
    """The largest magnitude of each group, float64; NaN where a group has a NaN or an Inf."""
    if not groups.numel():
        return torch.zeros(groups.shape[:-1], dtype=torch.float64, device=groups.device)
    largest = groups.abs().amax(-1).double()
    return torch.where(largest.isfinite(), largest, torch.nan)


def column(values: Sequence[float], device: torch.device) -> Tensor:
    """(P, 1) float64."""
    return torch.tensor(values, dtype=torch.float64, device=device)[:, None]


def by_exponent(groups: Tensor, formats: Sequence[Block] | Sequence[MX]) -> Tensor:
    """2^(E + shift) · unit, E the exponent of the largest magnitude, `unit` the elements' step; `unit` for zeros."""
    numbers = exponents(formats)
    if groups.device.type != "cpu":
        return by_exponent_eager(groups, formats) * numbers[-1]
    scale = np.empty(groups.shape[:2])
    rows = groups.view(len(groups), -1).numpy()
    kernels.exponent_scales(rows, groups.shape[2], *numbers, scale)
    return torch.from_numpy(scale)


def exponents(formats: Sequence[Block] | Sequence[MX]) -> tuple[Integers, int, float]:
    """Shared exponents for the kernels: the shifts (P,), the largest magnitude of E + shift, and the elements' step."""
    shifts = np.array([f.shift for f in formats])
    elements = formats[0].elements
    unit = elements.step if isinstance(elements, Grid) else 1.0  # the int8 of MX has a step other than 1
    return shifts, BY_EXPONENT.get(formats[0].rule, UNBOUNDED), unit


def by_exponent_eager(groups: Tensor, formats: Sequence[Block] | Sequence[MX]) -> Tensor:
    """`by_exponent` without the unit, by tensor operations, on any device."""
    largest = largest_of(groups)
    exponent = exponent_of(largest) + column([f.shift for f in formats], groups.device).long()
    farthest = BY_EXPONENT.get(formats[0].rule, UNBOUNDED)
    exponent = exponent.clamp(-farthest, farthest)
    scale = torch.where(largest == 0, 1.0, power(exponent.clamp(-1022, 1023)))
    return torch.where(largest.isnan(), largest, scale)


def fitting(scale: Tensor, magnitudes: Sequence[float]) -> Tensor:
    """Powers of two as scales, halved where float32 cannot hold scale · largest magnitude of an element; NaN stays."""
    return torch.where(scale * column(magnitudes, scale.device) >= kernels.TOO_LARGE, scale / 2, scale)


def by_largest(groups: Tensor, formats: Sequence[Uniform]) -> Tensor:
    """The scale that maps the largest magnitude, computed or given, to the largest integer."""
    largest = _largest_or_given(groups, formats)
    scale = largest / column([f.elements.highest for f in formats], groups.device)
    return torch.where(largest == 0, 1.0, scale)


def by_next_power(groups: Tensor, formats: Sequence[Uniform]) -> Tensor:
    """`by_largest` rounded up to a power of two."""
    largest = _largest_or_given(groups, formats)
    scale = next_power(largest / column([f.elements.highest for f in formats], groups.device))
    return torch.where(largest == 0, 1.0, fitting(scale, [f.elements.magnitude for f in formats]))


def span(groups: Tensor, formats: Sequence[Uniform]) -> tuple[Tensor, Tensor]:
    """The lowest and the highest level of each group, computed or given; NaN where a group has a NaN or an Inf."""
    scaling = formats[0].scaling
    if isinstance(scaling, str):
        low, high = groups.amin(-1).double(), groups.amax(-1).double()
    else:
        high = torch.full(groups.shape[:-1], scaling, dtype=torch.float64, device=groups.device)
        low = -high
    finite = groups.isfinite().all(-1)
    return torch.where(finite, low, torch.nan), torch.where(finite, high, torch.nan)


def by_power(groups: Tensor, formats: Sequence[PowerOfTwo]) -> Tensor:
    """The power of two nearest to the largest magnitude, computed or given."""
    largest = _largest_or_given(groups, formats)
    return torch.where(largest == 0, 1.0, fitting(nearest_power(largest), [1.0] * len(formats)))


def _largest_or_given(groups: Tensor, formats: Sequence[Uniform] | Sequence[PowerOfTwo]) -> Tensor:
    """The largest magnitude of each group, or the format's own number; NaN stays NaN."""
    largest, scaling = largest_of(groups), formats[0].scaling
    return largest if isinstance(scaling, str) else torch.where(largest.isnan(), largest, scaling)


def nearest_power(x: Tensor) -> Tensor:
    """The power of two nearest to x, a tie to the larger one; NaN stays NaN."""
    lower = power(exponent_of(x).clamp(-1022, 1022))
    return torch.where(x.isnan(), x, torch.where(x >= 1.5 * lower, 2 * lower, lower))


def next_power(x: Tensor) -> Tensor:
    """The smallest power of two not below x; NaN stays NaN."""
    lower = power(exponent_of(x).clamp(-1022, 1022))
    return torch.where(x.isnan(), x, torch.where(x > lower, 2 * lower, lower))


def by_e4m3(groups: Tensor, formats: Sequence[NVFP4]) -> Tensor:
    """An e4m3 scale per group times a float32 scale per tensor."""
    elements, largest = Float(4, 3, saturate=True).elements, largest_of(groups)
    tensor = torch.ones_like(largest[:, :1])
    if formats[0].tensor_scale:
        tensor = (largest.amax(-1, keepdim=True) / (6 * 448)).float().double().clamp(min=2.0**-149)
    one = torch.ones_like(tensor)
    numbers = (one * elements.largest, one * elements.largest, one * 0.0)
    places = (one.long() * elements.mantissa, one.long() * elements.least_exponent)
    block = to_floating(largest / (6 * tensor), None, NEAREST, one, *places, *numbers).double()
    return block.clamp(min=elements.smallest) * tensor


def by_nvidia(groups: Tensor) -> tuple[Tensor, Tensor]:
    """The scale of each nvfp4 group as in NVIDIA's reference, in float64, and the factor that it multiplies values by.

    Each step is one operation in float32, in the reference's order: 448 · 6 / max |x| and reciprocals of rounded
    numbers; x itself is never divided.
    """
    largest = largest_of(groups).float()
    single, most = torch.ones_like(largest[:, :1]), torch.finfo(torch.float32).max
    everything = largest.amax(-1, keepdim=True)
    encode = (2688 * single / everything).clamp(max=most)  # tensors: a number over a tensor is its reciprocal first
    elements, one = Float(4, 3, saturate=True).elements, single.double()
    numbers = (one * elements.largest, one * elements.largest, one * 0.0)
    places = (one.long() * elements.mantissa, one.long() * elements.least_exponent)
    ratio = (largest / (6 * single) * encode).clamp(max=most)
    block = to_floating(ratio, None, NEAREST, one, *places, *numbers)
    inverse = (single / (block * (single / encode))).clamp(max=most)
    return block.double() * (everything.double() / 2688.0).float().double(), inverse


def means(groups: Tensor, formats: Sequence[Binary] | Sequence[Ternary], counts: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and the threshold of each group (0 for binary), from mean magnitudes.

    Args:
        counts: values in each group (G,), without padding.
    """
    magnitudes, largest = groups.abs().double(), largest_of(groups)
    unit = power((exponent_of(largest) - MEAN_BITS).clamp(-1022, 1023))
    inside = torch.arange(groups.shape[-1], device=groups.device) < counts[:, None]
    whole = torch.where(magnitudes.isfinite(), magnitudes / unit[..., None], 0.0).round().long() * inside

    def mean(kept: Tensor) -> Tensor:
        number = kept.sum(-1)
        average = (whole * kept).sum(-1).double() * unit / number.clamp(min=1)
        return torch.where(largest.isnan(), largest, average)

    threshold = torch.zeros_like(largest)
    if isinstance(formats[0], Ternary):
        given = formats[0].threshold
        computed = (0.7 * mean(inside.expand_as(whole))).float().double()
        threshold = computed if isinstance(given, str) else torch.full_like(largest, given)
    above = inside & (magnitudes > threshold[..., None]) if isinstance(formats[0], Ternary) else inside.expand_as(whole)
    return _scale_of_mean(formats[0].scaling, mean(above), largest), threshold


def _scale_of_mean(scaling: float | str, mean: Tensor, largest: Tensor) -> Tensor:
    if not isinstance(scaling, str):
        return torch.where(largest.isnan(), largest, torch.tensor(scaling).double().to(largest.device))
    scale = mean.float().double()
    power_of_two = fitting(nearest_power(scale), [1.0] * len(scale))
    return torch.where(scale == 0, scale, power_of_two) if scaling == "po2" else scale


# --- the rules --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """How a family finds the scale under which values are rounded to its elements.

    Attributes:
        scale: the scales (P, G) of groups (P, G, width) of values in some formats.
        exact: whether all of them are powers of two.
    """

    scale: Callable[[Tensor, Any], Tensor]
    exact: bool


RULES = {
    **dict.fromkeys(BY_EXPONENT, Rule(by_exponent, exact=True)),
    "nearest power": Rule(by_power, exact=True),
    "next power": Rule(by_next_power, exact=True),
    "largest": Rule(by_largest, exact=False),
    "e4m3": Rule(by_e4m3, exact=False),
    "nvidia": Rule(lambda groups, _: by_nvidia(groups)[0], exact=False),
}
"""By the names that families declare."""
