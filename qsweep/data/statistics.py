"""The mean and the standard deviation of images, with the same bits on every machine.

Sums of uint8 are exact integers. Floats are added in float64 by elementwise additions in a fixed order, since NumPy's
own sum promises no order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

ROWS = 4096
"""How many examples are in float64 at once."""


def mean_image(images: Array) -> Array:
    """The mean over the first axis, in float64: sums, each divided once."""
    if images.dtype == np.uint8:
        return np.asarray(images.sum(0, dtype=np.int64) / len(images))
    return _sum(images) / len(images)


def of_channels(images: Array) -> tuple[list[float], list[float]]:
    """The mean and the standard deviation of each channel of images (n, channels, height, width). The latter is 1 where
    all pixels are equal, so that it can be divided by."""
    of = _of_bytes if images.dtype == np.uint8 else _of_floats
    means, variances = zip(*(of(images[:, channel]) for channel in range(images.shape[1])), strict=True)
    return list(means), [math.sqrt(variance) or 1.0 for variance in variances]


def _of_bytes(pixels: Array) -> tuple[float, float]:
    """Mean and variance, each exact until one division."""
    counts = np.bincount(pixels.reshape(-1), minlength=256).tolist()
    total, squares = (sum(n * level**power for level, n in enumerate(counts)) for power in (1, 2))
    return total / pixels.size, (pixels.size * squares - total**2) / pixels.size**2


def _of_floats(pixels: Array) -> tuple[float, float]:
    mean = math.fsum(_sum(pixels).reshape(-1)) / pixels.size
    return mean, math.fsum(_sum(pixels, mean, 2).reshape(-1)) / pixels.size


def _sum(values: Array, centre: float = 0.0, power: int = 1) -> Array:
    """The sum over the first axis of (values - centre) to a power, in float64."""
    parts = (values[start : start + ROWS].astype(np.float64) for start in range(0, len(values), ROWS))
    return _halved(np.stack([_halved(part if power == 1 else (part - centre) ** power) for part in parts]))


def _halved(rows: Array) -> Array:
    """The sum of rows: the first half is added to the second until one is left."""
    while len(rows) > 1:
        half = len(rows) // 2
        rows = np.concatenate([rows[:half] + rows[half : 2 * half], rows[2 * half :]])
    return np.asarray(rows[0])
