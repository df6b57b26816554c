"""Times the compression of the 481,214 weights of cnn3 to 8 bits and to 8 and 256 levels by k-means, and measures the
accuracy of binning.

The document's Python loop goes over all values for each of 256 levels; it is not timed here.
"""

from __future__ import annotations

from functools import partial

from measure import as_a_worker, seconds, spread
from torch import Tensor

from qsweep.data.catalog import DATASETS
from qsweep.formats import Format, parse
from qsweep.kernels.streams import Stream
from qsweep.models.build import build, initialize
from qsweep.rounding import kmeans, quantize

N, LEVELS = 7, 8
MNIST = DATASETS["mnist"]


def weights() -> list[Tensor]:
    """Weights distributed like trained ones: most near 0, a few large."""
    net = build({"name": "cnn3"}, {}, MNIST.shape, MNIST.classes)
    initialize(net, {"name": "he"}, Stream(0))
    return [parameter.detach() ** 3 for parameter in net.parameters()]


def main() -> None:
    as_a_worker()
    tensors = weights()
    for name in ("uniform8", "kmeans8", "kmeans256"):
        fmt = parse(name)
        for tensor in tensors:
            quantize(tensor[:1], fmt)  # compile and import before the timing
        times = [seconds(partial(_compress, tensors, fmt)) for _ in range(N)]
        print(f"{name}: {spread([1000 * t for t in times], 0)} ms")
    values = max(tensors, key=Tensor.numel).double().flatten().numpy()
    found = [_error(values, bins) for bins in (kmeans.BINS, values.size)]
    print(f"{LEVELS} levels from {kmeans.BINS:,} bins: {found[0] / found[1]:.6f} of the squared error without bins")


def _compress(tensors: list[Tensor], fmt: Format) -> None:
    for tensor in tensors:
        quantize(tensor, fmt)


def _error(values: kmeans.Values, bins: int) -> float:
    before, kmeans.BINS = kmeans.BINS, bins
    found = kmeans.levels(values, LEVELS)
    kmeans.BINS = before
    return float(((kmeans.nearest(values, found) - values) ** 2).sum())


if __name__ == "__main__":
    main()
