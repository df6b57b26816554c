"""Shared by the benchmarks: interleaved timings, and their ratio as one line."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

import torch

from qsweep.runner.backends import worker_environment
from qsweep.training.process import keep_memory


def as_a_worker() -> None:
    """Run like a worker: in its environment (in which this program restarts), on one thread, keeping freed memory."""
    own = worker_environment()
    if not own.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **own})  # noqa: S606  # itself
    torch.set_num_threads(1)
    keep_memory()


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratios(work: Callable[[], object], floor: Callable[[], object], n: int) -> tuple[list[float], list[float]]:
    """Interleaved seconds of both, so that a drifting machine affects both alike: n pairs after one to warm up."""
    pairs = [(seconds(work), seconds(floor)) for _ in range(n + 1)][1:]
    return [p[0] for p in pairs], [p[1] for p in pairs]


def spread(values: list[float], digits: int = 2) -> str:
    """Median, range and count as text."""
    median, least, most = (f"{v:.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return f"{median} ({least} … {most}, n={len(values)})"
