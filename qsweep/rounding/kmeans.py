"""K-means in one dimension: codebooks of values."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qsweep.formats import KMeans
from qsweep.rounding.layout import Layout, layout_of

Values = NDArray[np.float64]

BINS = 1 << 16
"""Of the histogram that replaces more distinct values than this: weighted bins, each at the mean of its values. With
most values near 0 and a few far away, the squared error is 1.000001 times that without bins (benchmarks/compress.py);
one value a thousand times as far out as all others would leave these in a few bins."""
STEPS, STARTS = 500, 4
"""Of Lloyd's algorithm: the maximum number of steps, and the number of starts of which the best is used."""


def quantized(x: Tensor, fmt: KMeans, contraction: int) -> Tensor:
    """A new tensor like `x`: each value the nearest level of its group. A NaN or an Inf makes its whole group NaN.

    Args:
        x: float32, any shape.
        contraction: the axis along which groups run, if the format does not set it.
    """
    layout = layout_of(fmt, x.shape, contraction)
    result = torch.empty(1, *layout.shape)
    rows = layout.rows(x.detach().cpu().view(1, *layout.shape))
    layout.put(_rounded(rows, fmt.clusters, layout), result)
    return result.view(x.shape).to(x.device)


def _rounded(rows: Tensor, clusters: int, layout: Layout) -> Tensor:
    groups = rows.view(-1, layout.width).double().numpy().copy()
    for group, count in zip(groups, layout.counts.tolist(), strict=True):
        group[:] = nearest(group, levels(group[:count], clusters)) if np.isfinite(group).all() else np.nan
    return torch.from_numpy(groups).float().view(rows.shape)


def nearest(values: Values, found: Values) -> Values:
    """The nearest of sorted levels for each value; a tie goes to the lower one."""
    return found[np.searchsorted((found[1:] + found[:-1]) / 2, values)]


def levels(values: Values, clusters: int) -> Values:
    """The levels of finite values, sorted: at most `clusters`."""
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= clusters:
        return different
    points, weights = (different, counts) if len(different) <= BINS else _histogram(values)
    started = _clustered(points, weights, clusters)
    return _means(values, np.unique(started))


def _histogram(values: Values) -> tuple[Values, NDArray[np.int64]]:
    """The mean and the number of the values in each bin that is not empty."""
    low, high = values.min(), values.max()
    bins = np.minimum(((values - low) / (high - low) * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = np.bincount(bins, weights=values, minlength=BINS)
    return sums[counts > 0] / counts[counts > 0], counts[counts > 0]


def _clustered(points: Values, weights: NDArray[np.int64], clusters: int) -> Values:
    from sklearn.cluster import KMeans as Lloyd
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    lloyd = Lloyd(min(clusters, len(points)), n_init=STARTS, random_state=0, max_iter=STEPS, tol=0.0)
    with threadpool_limits(1), warnings.catch_warnings():  # two threads would add up in another order
        warnings.simplefilter("ignore", ConvergenceWarning)
        centers: Values = lloyd.fit(points[:, None], sample_weight=weights).cluster_centers_[:, 0]
    return centers


def _means(values: Values, found: Values) -> Values:
    """The levels once more, as the means of the values themselves, in float32 as they are kept."""
    numbers = np.searchsorted((found[1:] + found[:-1]) / 2, values)
    counts = np.bincount(numbers, minlength=len(found))
    sums = np.bincount(numbers, weights=values, minlength=len(found))
    return np.unique((sums[counts > 0] / counts[counts > 0]).astype(np.float32)).astype(np.float64)
