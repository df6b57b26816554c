"""Histograms of trained weights: the distribution of a layer's values, without keeping the values themselves.

Counts are integers and each value finds its bin by itself, so that no sum depends on an order, a stack or a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Histogram = dict[str, Any]
"""`role`, `low` and `high` (the least and the greatest value), and `counts`, one for each of the equal bins between."""


def histograms(values: Mapping[str, Tensor], roles: Mapping[str, str], bins: int) -> dict[str, Histogram]:
    """One trial's histogram of each parameter that has a role, by place.

    Args:
        values: finite tensors by parameter name.
        roles: the role of each parameter that has one.
        bins: how many; 0 gives none.
    """
    if not bins:
        return {}
    return {
        place: {"role": roles[place], **histogram(value, bins)} for place, value in values.items() if place in roles
    }


def histogram(values: Tensor, bins: int) -> Histogram:
    """Equal bins from the least to the greatest value, which belongs to the last one; values all alike fill the first.

    A value x is in bin ⌊(x − low) / (high − low) · bins⌋, computed in float64.
    """
    wide = values.detach().cpu().double().flatten()
    low, high = (float(end) + 0.0 for end in wide.aminmax())  # -0.0 and 0.0 are one value: never -0.0 in a record
    # of values all alike nothing is 0 / 0: each stands 0 above the least, over any width
    places = ((wide - low) / ((high - low) or 1.0) * bins).floor().clamp(max=bins - 1)
    counts: list[int] = torch.bincount(places.long(), minlength=bins).tolist()
    return {"low": low, "high": high, "counts": counts}
