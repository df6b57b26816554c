"""Shared by the tests of rounding: values to round, and the comparison of results."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qsweep.formats import ElementType, Float, Floating, Grid

MODES = ("nearest", "away", "zero", "up", "down", "stochastic", "stochastic1", "stochastic4")
"""Every rounding mode, with two of stochasticN."""
LARGEST = float(np.finfo(np.float32).max)
ODD_ONES = [0.0, 2.0**-149, 3 * 2.0**-149, 2.0**-126, 0.1, 1.0, 1e9, 1e30, LARGEST, np.inf, np.nan]
SMALL_FLOATS = [(e, m) for e in range(2, 7) for m in range(1, 8 - e)]
"""Exponent and mantissa bits of all floats of up to 8 bits."""


FLAVOURS = [("ieee", False), ("ieee", True), ("nan", False), ("nan", True), ("finite", False)]


def small_floats() -> list[Float]:
    """Every floating-point format of up to 8 bits in each flavour, saturating and not."""
    return [Float(e, m, *own) for e, m in SMALL_FLOATS for own in FLAVOURS]


def points(elements: ElementType, stride: int = 1) -> Tensor:
    """All elements (each `stride`-th), the middles between neighbours, what is beyond and the odd ones, these
    three with their float32 neighbours; of both signs."""
    values = np.array(list(elements.values()))
    middles = (values[:-1] + values[1:]) / 2
    special = np.concatenate([middles[::stride], values[-2:], _beyond(elements), ODD_ONES])
    return with_neighbours(special, values[::stride])


def with_neighbours(values: np.ndarray, alone: np.ndarray | None = None) -> Tensor:
    """Distinct float32 values of both signs, each with its neighbours below and above.

    Args:
        alone: more values, without their neighbours.
    """
    with np.errstate(all="ignore"):
        exact = np.concatenate([values, -values]).astype(np.float32)
        found = [exact, *(np.nextafter(exact, np.float32(end), dtype=np.float32) for end in (-np.inf, np.inf))]
        found += [] if alone is None else [alone.astype(np.float32), -alone.astype(np.float32)]
    patterns = np.unique(np.concatenate(found).view(np.int32))
    return torch.from_numpy(patterns.view(np.float32).copy())


def _beyond(elements: ElementType) -> list[float]:
    """Values at which overflow starts, and some wraps of an integer."""
    if isinstance(elements, Grid):
        count = elements.highest - elements.lowest + 1
        ends = [elements.lowest, elements.highest]
        turns = [0.5, 1, 1.5, 2, count - 0.5, count, count + 1, 7 * count, 7 * count + 2.5]
        return [(end + turn) * elements.step for end in ends for turn in turns]
    assert isinstance(elements, Floating)
    gap = elements.largest - sorted(elements.values())[-2]
    return [elements.largest + gap * part for part in (0.25, 0.5, 0.75, 1, 2)] + [2 * elements.largest]


def noise_like(x: Tensor, seed: int = 0) -> Tensor:
    """Random multiples of 2^-24 in [0, 1), including the smallest and the largest."""
    noise = torch.randint(0, 2**24, x.shape, generator=torch.Generator().manual_seed(seed)) / 2**24
    flat = noise.view(-1)
    flat[2::5], flat[4::5] = 0.0, 1 - 2.0**-24
    return noise


def assert_same(found: Tensor, expected: Tensor, x: Tensor | None = None) -> None:
    """Check for equal bits, including the sign of zero; all NaNs are equal."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == torch.float32
    found, expected = found.contiguous(), expected.contiguous()
    equal = (found.view(torch.int32) == expected.view(torch.int32)) | (found.isnan() & expected.isnan())
    wrong = (~equal).nonzero()[:3].tolist()
    examples = [
        (None if x is None else float(x[tuple(at)]), float(found[tuple(at)]), float(expected[tuple(at)]))
        for at in wrong
    ]
    assert not wrong, f"{int((~equal).sum())} of {equal.numel()} differ, the first (x, found, expected): {examples}"
