"""Histograms of trained weights: the distribution of a layer's values, without keeping the values themselves.

Counts are integers and each value's bin is computed independently, so that results do not depend on order, stack or
device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Histogram = dict[str, Any]
"""`role`, `low` and `high` (the smallest and the largest value), and `counts`, one per equal bin between them."""


def histograms(values: Mapping[str, Tensor], roles: Mapping[str, str], bins: int) -> dict[str, Histogram]:
    """One trial's histogram of each parameter that has a role, by place.

    Args:
        values: finite tensors by parameter name.
        roles: the role of each parameter that has one.
        bins: how many; 0 for no histograms.
    """
    if not bins:
        return {}
    return {
        place: {"role": roles[place], **histogram(value, bins)} for place, value in values.items() if place in roles
    }


def histogram(values: Tensor, bins: int) -> Histogram:
    """Equal bins from the smallest to the largest value, which is in the last one; equal values are all in the first.

    A value x is in bin ⌊(x − low) / (high − low) · bins⌋, computed in float64.
    """
    wide = values.detach().cpu().double().flatten()
    low, high = (float(end) + 0.0 for end in wide.aminmax())  # -0.0 and 0.0 are one value: never -0.0 in a record
    # if all values are equal, any width avoids 0 / 0
    places = ((wide - low) / ((high - low) or 1.0) * bins).floor().clamp(max=bins - 1)
    counts: list[int] = torch.bincount(places.long(), minlength=bins).tolist()
    return {"low": low, "high": high, "counts": counts}
