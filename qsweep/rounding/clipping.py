"""Clipping values before a format computes their scale: fewer outliers, finer levels for all other values."""

from __future__ import annotations

import torch
from torch import Tensor

from qsweep.formats import Format, Scaled
from qsweep.rounding import quantize
from qsweep.rounding.layout import Layout, layout_of

RATIOS = [1 - step / 50 for step in range(41)]
"""Fractions of the span that `least_squares` tries: from all of it down to a fifth, in steps of 2 %."""


def compressed(x: Tensor, fmt: Format, clip: float | str, contraction: int) -> Tensor:
    """Clip the values of each group, then round them to a format.

    Args:
        x: float32, any shape.
        clip: `none`; the percentage of values that is not clipped; or `least_squares`, the range with the smallest sum
            of squared errors, among RATIOS of a group's span (around its middle unless the format is symmetric).
        contraction: the axis along which groups run, if the format does not set it.
    """
    if clip == "none" or not x.numel():
        return quantize(x, fmt, contraction=contraction)
    layout = layout_of(fmt, x.shape, contraction) if isinstance(fmt, Scaled) else Layout(tuple(x.shape), "tensor", 0)
    if isinstance(clip, float):
        return quantize(_cut(x, layout, *_percentiles(x, layout, clip)), fmt, contraction=contraction)
    return _least_squares(x, fmt, layout, contraction)


def _percentiles(x: Tensor, layout: Layout, kept: float) -> tuple[Tensor, Tensor]:
    """The range that holds `kept` per cent of each group's values: its ends, (G,) each."""
    groups, counts = _grouped(x, layout), layout.counts.to(x.device)
    ends = torch.empty(2, len(groups), device=x.device)
    rest = (1 - kept / 100) / 2
    for count in counts.unique().tolist():  # the last group of a row may be shorter; it is padded
        own = groups[counts == count, :count].double()
        for end, share in zip(ends, (rest, 1 - rest), strict=True):
            end[counts == count] = own.quantile(share, dim=1).float()
    return ends[0], ends[1]


def _least_squares(x: Tensor, fmt: Format, layout: Layout, contraction: int) -> Tensor:
    groups = _grouped(x, layout)
    is_own = torch.arange(layout.width, device=x.device) < layout.counts.to(x.device)[:, None]
    best, least = groups, torch.full((len(groups),), torch.inf, dtype=torch.float64, device=x.device)
    for ratio in RATIOS:
        found = _grouped(quantize(_cut(x, layout, *_ends(groups, ratio, fmt)), fmt, contraction=contraction), layout)
        error = ((found.double() - groups.double()).square() * is_own).sum(1)
        better = error < least
        best = found if ratio == 1 else torch.where(better[:, None], found, best)
        least = torch.where(better, error, least)
    return _put(best, layout, x)


def _ends(groups: Tensor, ratio: float, fmt: Format) -> tuple[Tensor, Tensor]:
    """Both ends of a fraction of each group's span."""
    if fmt.rule == "ends":
        low, high = groups.amin(1), groups.amax(1)
        middle, half = (low + high) / 2, (high - low) / 2 * ratio
        return (low, high) if ratio == 1 else (middle - half, middle + half)
    largest = groups.abs().amax(1) * ratio
    return -largest, largest


def _grouped(x: Tensor, layout: Layout) -> Tensor:
    return layout.rows(x.reshape(1, *layout.shape)).view(-1, layout.width)


def _cut(x: Tensor, layout: Layout, low: Tensor, high: Tensor) -> Tensor:
    return _put(_grouped(x, layout).clamp(low[:, None], high[:, None]), layout, x)


def _put(groups: Tensor, layout: Layout, like: Tensor) -> Tensor:
    result = torch.empty(1, *layout.shape, device=like.device)
    layout.put(groups.reshape(1, -1), result)
    return result.view(like.shape)
